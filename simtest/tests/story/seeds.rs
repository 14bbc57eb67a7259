//! Seeds of random worlds whose trouble needs a coincidence no story has been written for. They show it as long as their traces
//! stay what they are.

use simtest::random;

/// Space for logs comes back at the moment in which the role goes: the requests that wait for the log must be answered, or
/// the application never closes the device.
#[test]
fn a_device_that_is_taken_away_while_logging_begins_again_answers_its_client() {
    let outcome = random::run(11357, false);
    assert_eq!(outcome.broken, Vec::<String>::new());
}
