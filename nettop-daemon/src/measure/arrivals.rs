//! Looks for the names of a container when a process there is recorded: at the next reading it may be gone.

use std::{sync::Arc, thread, time::Duration};

use nettop_kernel::processes::Arrivals;

use crate::identity::{cgroup, containers::Containers};

/// Between two looks: a storm of processes wakes the thread no more often.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// While nobody takes what was looked at.
const FULL_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Looks at records until the process ends.
pub fn watch(arrivals: Arrivals, containers: Arc<Containers>) {
    let started = thread::Builder::new().name("nettopd-arrivals".into()).spawn(move || {
        loop {
            let looked = arrivals.wait_for_each(|described| {
                let cgroup = described.cgroup.as_deref().map(String::from_utf8_lossy);
                if let Some(place) = cgroup.as_deref().and_then(cgroup::place) {
                    containers.see(place);
                }
            });
            match looked {
                Ok(has_room) => thread::sleep(if has_room { POLL_INTERVAL } else { FULL_POLL_INTERVAL }),
                Err(error) => {
                    tracing::warn!("containers that end before a reading have no names: {error:#}");
                    return;
                }
            }
        }
    });
    if let Err(error) = started {
        tracing::warn!("containers that end before a reading have no names: {error}");
    }
}
