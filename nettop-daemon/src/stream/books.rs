//! The ledger behind a stream. Nobody looks at its rows, but they are kept as ever: owners and listeners that ended make
//! room for others.

use nettop_common::DropCount;

use super::Source;
use crate::{
    drops::Listeners,
    kernel::{programs::Programs, telling::Loss},
    ledger::Ledger,
};

pub struct Books {
    ledger: Ledger,
    listeners: Listeners,
}

impl Books {
    pub fn new(programs: Programs) -> Self {
        Self { ledger: Ledger::new(programs), listeners: Listeners::default() }
    }
}

impl Source for Books {
    fn lost(&mut self) -> Loss {
        self.ledger.read(|_| false, |_| true);
        let mut folded = DropCount { packets: 0, bytes: 0 };
        self.listeners.read(self.ledger.programs(), &mut folded);
        self.ledger.programs().events_lost()
    }

    fn detach(&mut self) {
        self.ledger.programs().detach();
    }
}
