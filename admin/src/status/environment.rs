//! What `mars-status` shows besides the key tree: versions, mounts, operating parameters. All of it is optional.

use std::collections::BTreeMap;

use serde::Serialize;

/// What the caller found out about this host; the default knows nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Environment {
    /// Release of the operating system.
    pub kernel: Option<String>,
    /// Device path to mount point.
    pub mounts: BTreeMap<String, String>,
    /// Operating parameters and counters by the names that the daemon gives them; numbers in the unit of the name.
    pub parameters: BTreeMap<String, f64>,
}

impl Environment {
    /// Reads parameters from the daemon's facts: every number in the JSON object, nested names joined with a dot.
    pub fn with_facts(mut self, json: &str) -> Environment {
        if let Ok(value) = serde_json::from_str(json) {
            collect(&value, "", &mut self.parameters);
        }
        self
    }

    /// A parameter, if the daemon tells it.
    pub fn parameter(&self, name: &str) -> Option<f64> {
        self.parameters.get(name).copied()
    }
}

fn collect(value: &serde_json::Value, name: &str, into: &mut BTreeMap<String, f64>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (field, value) in fields {
                let dot = if name.is_empty() { "" } else { "." };
                collect(value, &format!("{name}{dot}{field}"), into);
            }
        }
        serde_json::Value::Bool(on) => {
            into.insert(name.to_owned(), f64::from(u8::from(*on)));
        }
        serde_json::Value::Number(number) => {
            if let Some(number) = number.as_f64() {
                into.insert(name.to_owned(), number);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_become_parameters_with_dotted_names() {
        let env = Environment::default().with_facts(r#"{"a":{"b":2,"c":true},"d":"x"}"#);
        assert_eq!(env.parameter("a.b"), Some(2.0));
        assert_eq!(env.parameter("a.c"), Some(1.0));
        assert_eq!(env.parameter("d"), None);
        assert_eq!(
            Environment::default().with_facts("no json"),
            Environment::default()
        );
    }
}
