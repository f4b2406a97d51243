//! Which processes are asked about, by unit, container or pod.

use clap::Args;
use nettop_model::Names;

use super::parameters::{Parameters, Query};

/// What all questions about processes take.
#[derive(Args, Debug, Clone, Default)]
pub struct NamesArgs {
    /// Only processes of this systemd unit; may be repeated
    #[arg(long, value_name = "UNIT")]
    pub unit: Vec<String>,
    /// Only processes in this container, by its name or by how its id begins; may be repeated
    #[arg(long, value_name = "CONTAINER")]
    pub container: Vec<String>,
    /// Only processes in this pod, as NAMESPACE/NAME or NAME; may be repeated
    #[arg(long, value_name = "POD")]
    pub pod: Vec<String>,
}

impl Query for NamesArgs {
    fn parameters(&mut self) -> Parameters<'_> {
        let Self { unit, container, pod } = self;
        vec![("unit", unit), ("container", container), ("pod", pod)]
    }
}

impl NamesArgs {
    /// Together with how names begin.
    pub fn with(&self, commands: &[String]) -> Names {
        let Self { unit, container, pod } = self.clone();
        Names { commands: commands.to_vec(), units: unit, containers: container, pods: pod }
    }
}
