//! Whether what is published is as docs/ describes it.

use serde_json::Value;

/// Checks a document against its schema. `at` points to a number or a list in it.
#[track_caller]
pub fn assert_fits(schema: &str, mut document: Value, at: &str) {
    let schema = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
    let errors: Vec<String> = schema.iter_errors(&document).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    *document.pointer_mut(at).unwrap() = "many".into();
    assert!(!schema.is_valid(&document), "a schema that everything fits says nothing");
}
