//! Keys, and what each does: the defaults, and a user's own.

use std::{collections::HashMap, fmt};

use crate::actions::{ACTIONS, Action};

/// A key, as a terminal sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    Char(char),
    Ctrl(char),
    F(u8),
    Enter,
    Esc,
    Backspace,
    Delete,
    Tab,
    BackTab,
    Up,
    Down,
    Left,
    Right,
    Home,
    End,
    PageUp,
    PageDown,
}

const NAMES: [(&str, Key); 15] = [
    ("enter", Key::Enter),
    ("esc", Key::Esc),
    ("backspace", Key::Backspace),
    ("delete", Key::Delete),
    ("tab", Key::Tab),
    ("shift-tab", Key::BackTab),
    ("up", Key::Up),
    ("down", Key::Down),
    ("left", Key::Left),
    ("right", Key::Right),
    ("home", Key::Home),
    ("end", Key::End),
    ("page-up", Key::PageUp),
    ("page-down", Key::PageDown),
    ("space", Key::Char(' ')),
];

impl Key {
    /// The key of a name: a character, `ctrl-u`, `f1`, or a word as `page-up`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut chars = text.chars();
        if let (Some(only), None) = (chars.next(), chars.next()) {
            return (!only.is_control() && only != ' ').then_some(Self::Char(only));
        }
        let lower = text.to_ascii_lowercase();
        if let Some((_, key)) = NAMES.iter().find(|(name, _)| *name == lower) {
            return Some(*key);
        }
        if let Some(letter) = lower.strip_prefix("ctrl-") {
            let letter = letter.parse().ok().filter(char::is_ascii_lowercase)?;
            return Some(Self::Ctrl(letter));
        }
        let number = lower.strip_prefix('f')?.parse().ok()?;
        (1..=12).contains(&number).then_some(Self::F(number))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ctrl(letter) => write!(f, "ctrl-{letter}"),
            Self::F(number) => write!(f, "f{number}"),
            key => match (NAMES.iter().find(|(_, named)| named == key), key) {
                (Some((name, _)), _) => f.write_str(name),
                (None, Self::Char(c)) => write!(f, "{c}"),
                (None, _) => Ok(()),
            },
        }
    }
}

/// Which key does what.
#[derive(Clone, Debug)]
pub struct Keymap(HashMap<Key, Action>);

impl Default for Keymap {
    fn default() -> Self {
        let keys = ACTIONS.iter().flat_map(|known| known.keys.iter().map(|key| (*key, known.action)));
        Self(keys.filter_map(|(name, action)| Some((Key::parse(name)?, action))).collect())
    }
}

impl Keymap {
    pub fn action(&self, key: Key) -> Option<Action> {
        self.0.get(&key).copied()
    }

    /// Gives an action these keys and no others. A key that another action had is taken from it.
    ///
    /// # Errors
    ///
    /// If there is no such action or key: the message names what there is.
    pub fn set(&mut self, action: &str, keys: &[String]) -> Result<(), String> {
        let Some(known) = ACTIONS.iter().find(|known| known.name == action) else {
            let names: Vec<&str> = ACTIONS.iter().map(|known| known.name).collect();
            return Err(format!("there is no action '{action}'; there are {}", names.join(", ")));
        };
        let mut parsed = Vec::new();
        for key in keys {
            parsed.push(Key::parse(key).ok_or_else(|| {
                format!(
                    "'{key}' is no key; give a character, ctrl-u, f1, enter, esc, tab, up, page-up, space or the like"
                )
            })?);
        }
        self.0.retain(|_, of| *of != known.action);
        self.0.extend(parsed.into_iter().map(|key| (key, known.action)));
        Ok(())
    }

    /// The keys of an action, as they are shown: first those that it has by default.
    pub fn keys_of(&self, action: Action) -> String {
        let keys = self.0.iter().filter(|(_, of)| **of == action).map(|(key, _)| key.to_string());
        let mut keys: Vec<String> = keys.collect();
        let usual = ACTIONS.iter().find(|known| known.action == action).map_or(&[][..], |known| known.keys);
        let place = |key: &String| usual.iter().position(|known| known == key).unwrap_or(usize::MAX);
        keys.sort_by_key(|key| (place(key), key.len(), key.clone()));
        keys.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_key_of_one_action_that_can_be_named() {
        let mut seen = HashMap::new();
        for known in &ACTIONS {
            for name in known.keys {
                let key = Key::parse(name).unwrap_or_else(|| panic!("{name}"));
                assert_eq!(key.to_string(), *name);
                assert_eq!(seen.insert(key, known.name), None, "{name} does two things");
            }
        }
    }

    #[test]
    fn a_user_gives_an_action_other_keys() {
        let mut keymap = Keymap::default();
        keymap.set("quit", &["x".into(), "ctrl-q".into()]).unwrap();
        assert_eq!(keymap.action(Key::Char('q')), None);
        assert_eq!(keymap.action(Key::Char('x')), Some(Action::Quit));
        assert_eq!(keymap.keys_of(Action::Quit), "x ctrl-q");
        keymap.set("help", &["x".into()]).unwrap();
        assert_eq!(keymap.action(Key::Char('x')), Some(Action::Help), "it is taken from the other");
        assert!(keymap.set("fly", &[]).unwrap_err().starts_with("there is no action 'fly'; there are quit, "));
        assert!(keymap.set("quit", &["hyper-x".into()]).unwrap_err().starts_with("'hyper-x' is no key"));
        for wrong in ["", "ctrl-", "ctrl-1", "f0", "f13", "\u{1b}", " "] {
            assert_eq!(Key::parse(wrong), None, "{wrong:?}");
        }
    }
}
