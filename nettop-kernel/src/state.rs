//! The state of hooks and programs.

use std::time::Duration;

use super::{
    choose::{Choice, Reason},
    hooks::{AttachPoint, Backend, Hook},
};

/// The state of a purpose.
#[derive(Clone, Debug)]
pub struct HookState {
    pub purpose: &'static str,
    /// What is missing if it is not attached.
    pub effect_if_missing: &'static str,
    /// Program types and targets, as `tp_btf/kfree_skb`.
    pub kind: String,
    pub backend: Option<Backend>,
    pub attached: bool,
    /// Each rejected way, and why.
    pub refused: Vec<(String, Reason)>,
}

/// What loading cost.
#[derive(Clone, Debug, Default)]
pub struct LoadState {
    pub took: Duration,
    /// Instructions the verifier processed, by program; absent before 5.16.
    pub verified: Vec<(String, u32)>,
}

/// A program's attachment; dropping it detaches.
pub(super) type Link = Box<dyn Send>;

pub(super) fn state(choice: &Choice<Link>) -> HookState {
    let shown = |place: AttachPoint, targets: Vec<&str>| format!("{}/{}", place.name(), targets.join("+"));
    let kind = |hooks: Vec<&Hook>| {
        let mut places: Vec<AttachPoint> = hooks.iter().map(|hook| hook.place).collect();
        places.dedup();
        let of = |place| hooks.iter().filter(|hook| hook.place == place).map(|hook| hook.target).collect();
        places.into_iter().map(|place| shown(place, of(place))).collect::<Vec<_>>().join(" ")
    };
    let all = |set: &'static super::hooks::HookSet| kind(set.hooks.iter().filter(|hook| !hook.optional).collect());
    HookState {
        purpose: choice.purpose.name,
        effect_if_missing: choice.purpose.effect_if_missing,
        kind: match choice.set {
            Some(_) => kind(choice.links.iter().map(|(hook, _)| *hook).collect()),
            None => choice.purpose.sets.first().map(all).unwrap_or_default(),
        },
        backend: choice.set.and_then(|set| set.backend),
        attached: choice.set.is_some(),
        refused: choice
            .refused
            .iter()
            .map(|(set, reason)| (set.backend.map_or("only way", Backend::name).to_owned(), reason.clone()))
            .collect(),
    }
}
