//! Golden scripts for `decide`: a tree and facts as text in, a plan with its reasons out.
//!
//! A script has one statement a line; `here NAME` says who decides. After the last line the plan of
//! the resource `data` is compared with the snapshot of the same name. To accept a change of
//! behaviour, read the difference: it is prose.

#![expect(clippy::panic, reason = "a failed check ends the test and says why")]

mod script;

use std::path::Path;

use node::facts::SpaceFacts;

#[test]
fn every_script_gives_the_plan_it_gave_before() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/decide/script");
    let mut scripts: Vec<_> = std::fs::read_dir(&dir)
        .expect("the scripts are there")
        .map(|entry| entry.expect("readable").path())
        .collect();
    scripts.sort();
    assert!(scripts.len() >= 10, "scripts are missing");
    for path in scripts {
        let text = std::fs::read_to_string(&path).expect("readable");
        let name = path
            .file_stem()
            .expect("named")
            .to_string_lossy()
            .into_owned();
        let plan = script::play(&text);
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(name, format!("{}\n----\n{plan}", text.trim_end()));
        });
    }
}

/// The main loops are woken only when this says that something differs.
#[test]
fn a_few_bytes_less_space_mean_nothing_a_percent_or_a_level_does() {
    let space = |level, rest| SpaceFacts {
        level,
        rest,
        total: 1 << 30,
    };
    let half = space(0, 1 << 29);
    assert!(half.means_the_same_as(&space(0, (1 << 29) + 4096)));
    assert!(!half.means_the_same_as(&space(0, (1 << 29) - 4096)));
    assert!(!half.means_the_same_as(&space(1, 1 << 29)));
    assert!(!half.means_the_same_as(&SpaceFacts::default()));
}
