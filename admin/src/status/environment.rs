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
    /// What the workers do, by resource.
    pub workers: BTreeMap<String, Workers>,
}

/// What the workers of one resource do, or why they rest, by name.
pub type Workers = BTreeMap<String, String>;

impl Environment {
    /// Takes over the numbers in `parameters` and the workers in `resources` of the daemon's facts. Facts of another
    /// form tell nothing.
    pub fn with_facts(mut self, json: &str) -> Environment {
        let facts: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
        self.parameters = numbers(&facts["parameters"]);
        let resources = facts["resources"].as_object().into_iter().flatten();
        self.workers = resources
            .map(|(res, workers)| (res.clone(), of_resource(workers)))
            .collect();
        self
    }

    /// A parameter, if the daemon tells it.
    pub fn parameter(&self, name: &str) -> Option<f64> {
        self.parameters.get(name).copied()
    }
}

fn of_resource(workers: &serde_json::Value) -> Workers {
    let workers = workers.as_object().into_iter().flatten();
    workers
        .filter_map(|(name, state)| {
            let text = match (state["rest"].as_str(), state["run"].as_str()) {
                (Some(reason), _) => format!("rests: {reason}"),
                (_, Some(job)) => format!("runs: {job}"),
                _ => return None,
            };
            Some((name.clone(), text))
        })
        .collect()
}

fn numbers(parameters: &serde_json::Value) -> BTreeMap<String, f64> {
    let fields = parameters.as_object().into_iter().flatten();
    fields
        .filter_map(|(name, value)| {
            let number = match value {
                serde_json::Value::Bool(on) => Some(f64::from(u8::from(*on))),
                other => other.as_f64(),
            };
            Some((name.clone(), number?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_become_parameters_and_workers() {
        let env = Environment::default().with_facts(
            r#"{"parameters":{"a":2,"b":true,"c":"x"},"resources":{"r":{"fetcher":{"rest":"own log"},"logger":{"run":"job"},"x":1}}}"#,
        );
        assert_eq!(env.parameter("a"), Some(2.0));
        assert_eq!(env.parameter("b"), Some(1.0));
        assert_eq!(env.parameter("c"), None);
        let workers = env.workers.get("r").expect("workers of r");
        assert_eq!(
            workers.get("fetcher").map(String::as_str),
            Some("rests: own log")
        );
        assert_eq!(workers.get("logger").map(String::as_str), Some("runs: job"));
        assert_eq!(workers.len(), 2);
    }

    #[test]
    fn facts_of_another_form_tell_nothing() {
        for json in ["no json", "[]", r#"{"parameters":7,"resources":[1]}"#] {
            assert_eq!(
                Environment::default().with_facts(json),
                Environment::default()
            );
        }
    }
}
