//! Chooses a back end for each purpose: the first whose prototypes are in the kernel's BTF and whose hooks load and
//! attach. Pure: two functions report what the kernel has.

use thiserror::Error;

use super::hooks::{Backend, Hook, HookSet, Purpose};

/// Why a set was rejected.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Reason {
    #[error("{0}")]
    Missing(String),
    #[error("{target} is {found}, expected {expected}")]
    Prototype { target: &'static str, found: String, expected: String },
    #[error("{kind}/{target}: {answer}")]
    Refused { kind: &'static str, target: &'static str, answer: String },
    #[error("another back end was asked for")]
    NotAsked,
    #[error("not needed")]
    NotNeeded,
}

/// The result for a purpose.
#[derive(Debug)]
pub struct Choice<L> {
    pub purpose: &'static Purpose,
    pub set: Option<&'static HookSet>,
    /// Of the chosen set.
    pub links: Vec<(&'static Hook, L)>,
    /// Why others were rejected, in their order.
    pub refused: Vec<(&'static HookSet, Reason)>,
}

/// Takes the first set that works, or only the forced one. Links of a set that fails halfway are dropped, which
/// detaches them. Never fails: without a set that works, `set` is `None`, and `refused` has a reason for each.
pub fn choose<L>(
    purpose: &'static Purpose,
    forced: Option<Backend>,
    mut offered: impl FnMut(&'static Hook) -> Result<(), Reason>,
    mut attach: impl FnMut(&'static Hook) -> Result<L, Reason>,
) -> Choice<L> {
    let mut choice = Choice { purpose, set: None, links: Vec::new(), refused: Vec::new() };
    for set in purpose.sets {
        let is_asked = set.backend.is_none() || forced.is_none() || set.backend == forced;
        let attached = if !is_asked {
            Err(Reason::NotAsked)
        } else if choice.set.is_some() {
            Err(Reason::NotNeeded)
        } else {
            attach_all(set, &mut offered, &mut attach)
        };
        match attached {
            Ok(links) => {
                choice.set = Some(set);
                choice.links = links;
            }
            Err(reason) => choice.refused.push((set, reason)),
        }
    }
    choice
}

fn attach_all<L>(
    set: &'static HookSet,
    offered: &mut impl FnMut(&'static Hook) -> Result<(), Reason>,
    attach: &mut impl FnMut(&'static Hook) -> Result<L, Reason>,
) -> Result<Vec<(&'static Hook, L)>, Reason> {
    let mut wanted = Vec::new();
    for hook in set.hooks {
        match offered(hook) {
            Ok(()) => wanted.push(hook),
            Err(_) if hook.optional => {}
            Err(reason) => return Err(reason),
        }
    }
    wanted.into_iter().map(|hook| Ok((hook, attach(hook)?))).collect()
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use super::*;
    use crate::hooks::AFTER_SEEDING;

    fn purpose(name: &str) -> &'static Purpose {
        AFTER_SEEDING.iter().find(|purpose| purpose.name == name).unwrap()
    }

    fn missing(hook: &Hook) -> Reason {
        Reason::Missing(hook.target.into())
    }

    #[test]
    fn the_first_way_that_works_is_taken() {
        let choice = choose(purpose("app tx"), None, |_| Ok(()), |_| Ok(()));
        assert_eq!(choice.set.unwrap().backend, Some(Backend::Tracepoint));
        assert!(choice.refused.iter().all(|(_, reason)| *reason == Reason::NotNeeded));
        let old = |hook: &'static Hook| if hook.target == "sock_send_length" { Err(missing(hook)) } else { Ok(()) };
        let choice = choose(purpose("app tx"), None, old, |_| Ok(()));
        assert_eq!(choice.set.unwrap().backend, Some(Backend::Fentry));
        assert_eq!(choice.refused[0].1, Reason::Missing("sock_send_length".into()));
    }

    #[test]
    fn a_forced_way_is_the_only_one() {
        let refuse = |hook: &'static Hook| {
            Err::<(), _>(Reason::Refused { kind: hook.place.name(), target: hook.target, answer: "EPERM".into() })
        };
        let choice = choose(purpose("app rx"), Some(Backend::Fentry), |_| Ok(()), refuse);
        assert!(choice.set.is_none());
        assert_eq!(choice.refused[0].1, Reason::NotAsked);
        assert_eq!(choice.refused[1].1.to_string(), "fexit/inet_recvmsg: EPERM");
        // There is one way to see packets, whatever was forced.
        assert!(choose(purpose("wire tx"), Some(Backend::Fentry), |_| Ok(()), |_| Ok(())).set.is_some());
    }

    #[test]
    fn what_is_optional_may_be_missing() {
        let new = |hook: &'static Hook| if hook.target == "inet_sendpage" { Err(missing(hook)) } else { Ok(()) };
        let choice = choose(purpose("app tx"), Some(Backend::Fentry), new, |_| Ok(()));
        assert!(choice.set.is_some() && choice.links.iter().all(|(hook, ())| hook.target != "inet_sendpage"));
    }

    #[test]
    fn a_refusal_halfway_leaves_nothing_attached() {
        struct Link(Rc<Cell<i32>>);
        impl Drop for Link {
            fn drop(&mut self) {
                self.0.set(self.0.get() - 1);
            }
        }
        let attached = Rc::new(Cell::new(0));
        let attach = |hook: &'static Hook| {
            if hook.target == "inet6_sendmsg" {
                return Err(missing(hook));
            }
            attached.set(attached.get() + 1);
            Ok(Link(Rc::clone(&attached)))
        };
        assert!(choose(purpose("app tx"), Some(Backend::Fentry), |_| Ok(()), attach).set.is_none());
        assert_eq!(attached.get(), 0);
    }
}
