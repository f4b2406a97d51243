//! The ledger behind a stream. Nobody reads its rows, but they are maintained: ended owners and listeners make room for
//! others.

use crate::{
    drops::Listeners,
    events::{Loss, Source},
    ledger::Ledger,
    ledger::Presence,
    programs::Programs,
};

pub struct EventLedger {
    ledger: Ledger,
    listeners: Listeners,
}

impl EventLedger {
    pub fn new(programs: Programs) -> Self {
        Self { ledger: Ledger::new(programs), listeners: Listeners::default() }
    }
}

impl Source for EventLedger {
    fn lost(&mut self) -> Loss {
        self.ledger.read(|_| false, |_| Presence::Unknown);
        self.listeners.read(self.ledger.programs());
        self.ledger.programs().events_lost()
    }

    fn detach(&mut self) {
        self.ledger.programs().detach();
    }
}
