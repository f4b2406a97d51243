//! The document `nettop.history/1`.

use std::sync::Arc;

use jiff::Timestamp;
use nettop_history::{Ancestor, Answer, AnswerRow, Boot, Counters, Part, Usage};
use nettop_model::{
    By, Login, ProcessNames, Session,
    history::{Document, Gap, LastBoot, Others, Quality, Resolution, Resources, Row, SCHEMA},
    snapshot::{Amount, Parent, Traffic},
};

use crate::{
    identity::users::{self, Users},
    measure::usage::resources::{disks, host, of_process, resources},
    query::history::HistoryQuery,
};

/// Puts it together.
pub fn document(query: &HistoryQuery, answer: &Answer, boot: Option<&Boot>) -> Document {
    let mut users = (!query.numeric).then_some(Users::with_timeout(users::DOCUMENT_TIMEOUT));
    let part = |part: &Part| Resolution {
        resolution: part.resolution.suffix().into(),
        from: utc(part.from),
        to: utc(part.to),
    };
    Document {
        schema: SCHEMA.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        from: utc(answer.from),
        to: utc(answer.to),
        by: query.by.name().into(),
        last_boot: boot.map(|boot| LastBoot {
            boot_id: boot.boot_id.clone(),
            kernel: boot.kernel.clone(),
            last: utc(boot.last),
            clean: boot.is_clean,
        }),
        quality: Quality {
            resolution: answer.parts.iter().map(part).collect(),
            period_ms: (answer.to - answer.from) * 1000,
            measured_ms: answer.measured_ms,
            selected_ms: answer.selected_ms,
            gaps: answer.gaps.iter().map(|(from, to)| Gap { from: utc(*from), to: utc(*to) }).collect(),
            losses: answer.losses.iter().map(|(cause, count)| (cause.clone(), *count)).collect(),
            namespaces_unread: answer.namespaces_unread,
            late_ms: answer.late_ms,
            clock_step_ms: answer.clock_step_ms,
            load_peak: answer.load_peak,
            host: answer.host.as_ref().map(host),
            disks: answer.host.as_ref().map(|host| disks(&answer.disks, host)).unwrap_or_default(),
        },
        rows: answer.rows.iter().map(|row| of_row(query.by, row, answer, &mut users)).collect(),
        others: Others {
            number: answer.others_number,
            sum: traffic(&answer.others),
            resources: used(By::Program, &answer.others_usage, answer).filter(|_| query.by != By::Device),
        },
        hogs: None,
    }
}

fn of_row(by: By, row: &AnswerRow, answer: &Answer, users: &mut Option<Users>) -> Row {
    let who = &row.who;
    let is_process = by == By::Process;
    let user = who.uid.and_then(|uid| users.as_mut().and_then(|users| users.name(uid)));
    let name = match (by, &user) {
        (By::User, Some(user)) => user.clone(),
        _ => row.name.clone(),
    };
    Row {
        name,
        pid: is_process.then_some(who.pid),
        start_time_ns: who.start_time_ns.filter(|_| is_process),
        uid: who.uid,
        user,
        comm: is_process.then(|| who.comm.clone()),
        process: ProcessNames {
            exe: who.exe.clone(),
            script: who.script.clone(),
            cgroup: who.cgroup.clone(),
            unit: who.unit.clone(),
            container: who.container.clone(),
            names: Arc::new(row.container.clone()),
            parents: who.parents.iter().map(parent).collect(),
            login: Arc::new(login(&who.login)),
            arguments: who.login.arguments.as_ref().map(|lines| lines.split('\n').map(ToOwned::to_owned).collect()),
        },
        device: who.device.name.clone(),
        processes: (by != By::Device).then_some(row.processes),
        sum: traffic(&row.counters),
        tx_peak_bytes: row.tx_peak_bytes,
        rx_peak_bytes: row.rx_peak_bytes,
        drops: (by != By::Device).then_some(row.drops),
        retransmits: (by != By::Device).then_some(row.retransmits),
        unattributed_bytes: row.rest.map(|rest| rest.unattributed_bytes),
        pending_bytes: row.rest.map(|rest| rest.pending_bytes),
        undecided_bytes: row.rest.map(|rest| rest.undecided_bytes),
        // Several of one name are one row without a pid.
        resources: used(if who.pid == 0 && is_process { By::Program } else { by }, &row.usage, answer),
        sparkline: (0..)
            .zip(&row.sparkline)
            .map(|(at, bytes)| is_measured(at, row, answer).then_some(*bytes))
            .collect(),
    }
}

fn used(by: By, usage: &Usage, answer: &Answer) -> Option<Resources> {
    answer.host.as_ref().filter(|_| by != By::Device).map(|host| match by {
        By::Process => of_process(usage, host),
        _ => resources(usage, host),
    })
}

fn parent(ancestor: &Ancestor) -> Parent {
    let Ancestor { pid, start_time_ns, uid, comm, .. } = ancestor.clone();
    Parent { pid, start_time_ns, comm, uid }
}

fn login(recorded: &nettop_history::Login) -> Login {
    let session = recorded.session.map(|pid| Session {
        pid,
        start_time_ns: recorded.session_start_time_ns,
        comm: recorded.session_comm.clone(),
    });
    Login { login_uid: recorded.login_uid, session }
}

/// Whether any of a sparkline's part was measured.
fn is_measured(at: i64, row: &AnswerRow, answer: &Answer) -> bool {
    let columns = i64::try_from(row.sparkline.len()).unwrap_or(1).max(1);
    let edge = |at: i64| answer.from + (answer.to - answer.from) * at / columns;
    let (from, to) = (edge(at), edge(at + 1));
    !answer.gaps.iter().any(|(gap_from, gap_to)| *gap_from <= from && to <= *gap_to)
}

const fn traffic(counters: &Counters) -> Traffic {
    Traffic {
        tx: Amount { bytes: counters.tx_bytes, packets: counters.tx_packets, app_bytes: counters.tx_app_bytes },
        rx: Amount { bytes: counters.rx_bytes, packets: counters.rx_packets, app_bytes: counters.rx_app_bytes },
    }
}

pub fn utc(ts: i64) -> String {
    Timestamp::from_second(ts).map(|time| time.to_string()).unwrap_or_default()
}
