//! A history without resources.

use nettop_model::history::Document;
use nettop_tests::run_nettopd;

use super::Recording;

#[test]
fn without_resources_nothing_of_them_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let path = Recording::start(folder.path(), &["--no-history-resources"]).finish();
    let output = run_nettopd(&["history", "--history", path.to_str().unwrap(), "--format", "json"]);
    let document: Document = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document.quality.host, None);
    assert!(document.rows.iter().all(|row| row.resources.is_none()));
}
