//! The schemas in docs/ are those of these types. `UPDATE_GOLDEN=1` renews them: look at what changed.

use std::fs;

use schemars::{JsonSchema, Schema, schema_for};
use serde::{Deserialize, Serialize};

use crate::{
    DropsDocument, check, connections, history, packets, snapshot, sockets, status,
    stream::{Head, Lost},
    trace,
};

/// A line of the stream: one of the first kind, then any of the others.
#[derive(Serialize, Deserialize, JsonSchema, Debug)]
#[schemars(rename = "Line")]
#[serde(untagged)]
enum Line<R> {
    Head(Head),
    Event(Box<R>),
    Lost(Lost),
}

#[test]
fn the_schemas_in_docs_are_those_of_these_types() {
    let schemas: [(&str, Schema); 9] = [
        ("check", schema_for!(check::Document)),
        ("connections", schema_for!(Line<connections::Record>)),
        ("drops", schema_for!(DropsDocument<'_>)),
        ("history", schema_for!(history::Document)),
        ("packets", schema_for!(Line<packets::Record>)),
        ("snapshot", schema_for!(snapshot::Snapshot)),
        ("sockets", schema_for!(sockets::Document)),
        ("status", schema_for!(status::Status)),
        ("trace", schema_for!(Line<trace::Record>)),
    ];
    for (name, schema) in schemas {
        let path = format!("{}/../docs/{name}.schema.json", env!("CARGO_MANIFEST_DIR"));
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let kept = fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == text, "{path} is out of date: run the tests once with UPDATE_GOLDEN=1\n{text}");
    }
}

#[test]
fn a_document_without_what_later_versions_added_is_read() {
    let traffic = r#"{"tx":{"bytes":0,"packets":0,"app_bytes":0},"rx":{"bytes":0,"packets":0,"app_bytes":0}}"#;
    let amounts = r#"{"interval":{"packets":0,"bytes":0},"total":{"packets":0,"bytes":0}}"#;
    let loss = serde_json::to_string(&snapshot::Loss::default()).unwrap();
    let document = format!(
        r#"{{"schema":"nettop.snapshot/1","version":"0","host":"h","boot_id":"b","kernel":"6.12","time":"t","interval_ms":1,
        "read_us":1,"accounting_since":"t","rows":[],"devices":[],"drops":[],"other_drops":{amounts},"uncounted_drops":0,
        "tcp":[],"exited":{traffic},"loss":{loss}}}"#
    );
    let snapshot: snapshot::Snapshot = serde_json::from_str(&document).unwrap();
    assert_eq!((snapshot.gone_devices, snapshot.devices_since), (snapshot::DeviceBalance::default(), None));
}
