//! Reads from the sources which files write to the terminal. Only those that escape may do so.

use std::{fs, path::Path};

/// Calls that only the named files may make, and what other files use instead.
const RULES: &[(&str, &[&str], &str)] = &[
    ("io::stdout()", &["terminal.rs", "output/destination.rs"], "`Terminal::out()`"),
    ("io::stderr()", &["terminal.rs"], "`Terminal::err()`"),
    ("print!(", &[], "`Terminal::out()`"),
    ("println!(", &[], "`Terminal::out()`"),
    ("eprint!(", &[], "`Terminal::err()`"),
    ("eprintln!(", &[], "`Terminal::err()`"),
    ("serde_json::to_string", &[], "the functions of `json.rs`"),
    ("serde_json::to_vec", &["json.rs"], "the functions of `json.rs`"),
    ("serde_json::to_writer", &["json.rs"], "the functions of `json.rs`"),
    (".display()", &[], "`FileName`"),
];

/// Returns the rules that a source breaks, outside of its comments and tests.
fn faults(file: &str, source: &str) -> Vec<String> {
    let code = source.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    let mut faults = Vec::new();
    for line in code.filter(|line| !line.trim_start().starts_with("//")) {
        // Asking whether it is a terminal writes nothing.
        let line = line.replace("io::stdout().is_terminal()", "").replace("io::stderr().is_terminal()", "");
        for (what, allowed, instead) in RULES {
            if line.contains(what) && !allowed.contains(&file) {
                faults.push(format!("{file}: {instead} instead of {}", line.trim()));
            }
        }
    }
    faults
}

fn each(folder: &Path, root: &Path, found: &mut Vec<String>, count: &mut usize) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            each(&path, root, found, count);
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            found.extend(faults(&name, &fs::read_to_string(&path).unwrap()));
            *count += 1;
        }
    }
}

#[test]
fn all_text_output_goes_through_the_terminal() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin/smtp-pool");
    let (mut found, mut count) = (Vec::new(), 0);
    each(&root, &root, &mut found, &mut count);
    assert!(count > 30, "{count} files");
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_planted_writer_is_found() {
    for planted in [
        "    writeln!(io::stdout().lock(), \"{text}\")?;",
        "let mut out = std::io::stderr();",
        "println!(\"{reply}\");",
        "let text = serde_json::to_string(&found)?;",
        "format!(\"{}: no such file\", path.display())",
    ] {
        assert_eq!(faults("probe.rs", planted).len(), 1, "{planted}");
    }
    for harmless in ["// io::stdout()", "let moves = io::stderr().is_terminal();", "#[cfg(test)]\nprintln!()"]
    {
        assert_eq!(faults("probe.rs", harmless), [""; 0], "{harmless}");
    }
}
