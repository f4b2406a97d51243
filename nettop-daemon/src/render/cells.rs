//! Cells of CSV that others choose the text of.

use nettop_model::{Login, snapshot::Parent};
use serde::{Serialize, Serializer};

use super::ancestry::link;

/// Text that others choose. A spreadsheet takes a leading `=`, `+`, `-` or `@` for a formula; a name never is one.
#[derive(Default, Clone, Copy)]
pub struct Text<'a>(pub Option<&'a str>);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.0.unwrap_or_default();
        if text.starts_with(['=', '+', '-', '@']) {
            serializer.collect_str(&format_args!("'{text}"))
        } else {
            serializer.serialize_str(text)
        }
    }
}

/// Those that started a process, its parent last: `systemd[1] > cron[512]`. A name has no `>`.
#[derive(Default, Clone, Copy)]
pub struct Parents<'a>(pub &'a [Parent]);

impl Serialize for Parents<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let parents = self.0.iter().rev();
        let parents: Vec<String> = parents.map(|parent| format!("{}[{}]", link(&parent.comm), parent.pid)).collect();
        Text(Some(&parents.join(" > "))).serialize(serializer)
    }
}

/// The session's id, and its leader's name.
pub fn session(login: &Login) -> (Option<u32>, Text<'_>) {
    let leader = login.session.as_ref();
    (leader.map(|leader| leader.pid), Text(leader.and_then(|leader| leader.comm.as_deref())))
}

/// With blanks between.
#[derive(Default, Clone, Copy)]
pub struct Arguments<'a>(pub Option<&'a [String]>);

impl Serialize for Arguments<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Text(Some(&self.0.unwrap_or_default().join(" "))).serialize(serializer)
    }
}
