//! What methods say of their parameters.

/// Clients show it to language models: no reference leads out of it.
#[test]
fn the_schema_of_parameters_is_an_object_that_stands_by_itself() {
  for method in hypha_service::methods() {
    let schema = &method.parameters;
    assert_eq!(schema["type"], "object", "{}: {schema}", method.name);
    let refers = schema.to_string().contains("$ref");
    assert!(!refers, "{}: {schema}", method.name);
  }
}
