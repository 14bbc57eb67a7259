//! The documented table of macros is the one of the program.
//!
//! `UPDATE_GOLDEN=1 cargo test -p admin --test macro_table` writes it anew.

use std::path::Path;

use admin::view::{self, NameLine};

fn row(line: &NameLine) -> String {
    let name = if line.name.is_empty() {
        "(empty)"
    } else {
        &line.name
    };
    let view = if line.view { "yes" } else { "" };
    let differs = line
        .differs
        .map_or("same".to_owned(), |what| format!("different: {what}"));
    format!(
        "| `{}` | {view} | {} | {} |\n",
        name.replace('|', "\\|"),
        line.about.replace('|', "\\|"),
        differs
    )
}

fn table(complex: bool) -> String {
    let lines = view::macro_table();
    let rows: String = lines
        .iter()
        .filter(|line| line.complex == complex)
        .map(row)
        .collect();
    format!("| name | `view-` | gives | compared with the original |\n|---|---|---|---|\n{rows}")
}

fn document() -> String {
    format!(
        "# Macros of `marsadm view`\n\n\
         Written by `admin/tests/macro_table.rs` from the tables of the program; do not edit.\n\
         The reasons for differences are in [differences.md](differences.md).\n\n\
         ## Predefined macros\n\n{}\n## Functions and primitives\n\n{}",
        table(true),
        table(false)
    )
}

#[test]
fn the_documented_table_of_macros_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/macros.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().expect("docs")).expect("docs");
        std::fs::write(&path, document()).expect("table written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, document(), "docs/macros.md is not current");
}
