//! Checks the layout of the sources.
//!
//! A layer imports only the layers that it may import. No files of a layer import each other in a circle. No two types
//! have one name, and no file is too long.

mod circles;
mod names;
mod source;

use std::{collections::BTreeSet, path::Path};

use self::source::Source;

/// The layers that each layer may import besides itself. `None` means all.
const ALLOWED: &[(&str, Option<&[&str]>)] = &[
    ("proto", Some(&[])),
    ("net", Some(&[])),
    ("metrics", Some(&[])),
    ("client", Some(&["proto", "net", "metrics"])),
    // It uses the TLS policies of `net`, and the roots and sessions that all servers share.
    ("pool", Some(&["client", "net", "proto", "metrics"])),
    // It uses the names of failures and policies of `net`, and its test for public addresses.
    ("verify", Some(&["pool", "client", "net", "proto", "metrics"])),
    ("job", Some(&["verify", "proto", "metrics"])),
    ("sandbox", Some(&["proto"])),
    // Documentation alone.
    ("guide", Some(&[])),
    ("blocking", None),
    // The command uses the library by `smtp_pool::`, and its own modules by `crate::`.
    ("bin", None),
    ("lib", None),
];

/// The maximum number of lines of a file without its tests.
const MAX_LINES: usize = 500;

/// Returns the first names behind `crate::`, also those in braces.
fn arrows(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    for (at, _) in code.match_indices("crate::") {
        // `$crate::` is a path as well, `some_crate::` is not.
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            names.insert(name(rest));
            continue;
        };
        let (mut depth, mut start) = (1, true);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => start = true,
                c if start && !c.is_whitespace() => {
                    names.insert(name(&group[at..]));
                    start = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    names.remove("");
    names
}

/// Returns what is wrong with the arrows of a file.
fn faults(source: &Source) -> Vec<String> {
    let (own, path) = (source.layer(), source.path.display());
    let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == own) else {
        return vec![format!("{path}: the layer {own} is in no table")];
    };
    let layers: Vec<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
    let bad = |to: &String| allowed.is_some_and(|allowed| *to != own && !allowed.contains(&to.as_str()));
    let arrows = arrows(&source.code()).into_iter().filter(|to| layers.contains(&to.as_str()) && bad(to));
    arrows.map(|to| format!("{path}: {own} may not import {to}")).collect()
}

#[test]
fn no_arrow_leads_upwards() {
    let all = source::all();
    let sources = all.iter().filter(|source| !source.path.ends_with("tests.rs"));
    let faults: Vec<_> = sources.flat_map(faults).collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn no_file_is_too_long_without_its_tests() {
    for source in source::all() {
        let lines = source.lines().count();
        let path = source.path;
        assert!(path.ends_with("tests.rs") || lines <= MAX_LINES, "{}: {lines} lines", path.display());
    }
}

#[test]
fn a_planted_arrow_is_found_in_every_form() {
    let faults = |path, text| faults(&Source::new(path, text));
    for planted in [
        "use crate::client::Session;",
        "use crate::{client::Session, proto::Reply};",
        "use crate::{\n    proto::{Reply, Verb},\n    client,\n};",
        "fn f(_: &crate::client::Session<()>) {}",
        "pub(in crate::client) fn f() {}",
        "macro_rules! m { () => { $crate::client::f() } }",
    ] {
        assert_eq!(
            faults("proto/reply.rs", planted),
            ["proto/reply.rs: proto may not import client"],
            "{planted}"
        );
    }
    for harmless in [
        "use crate::proto::Reply;",
        "use crate::{proto::{client::X, Reply}};",
        "//! see [`Session`](crate::client::Session)",
        "use other_crate::client::Session;",
        "#[cfg(test)]\nmod tests { use crate::client::Session; }",
    ] {
        assert_eq!(faults("proto/reply.rs", harmless), [""; 0], "{harmless}");
    }
    assert_eq!(faults("sandbox/server.rs", "use crate::net::Stream;").len(), 1);
    assert_eq!(faults("blocking/mod.rs", "use crate::{pool, verify};").len(), 0);
    assert_eq!(faults("new/mod.rs", "").len(), 1, "a layer has to be put into the table");
}

#[test]
fn the_command_uses_the_public_api_only() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin/smtp-pool");
    let own = |name: &String| folder.join(format!("{name}.rs")).exists() || folder.join(name).is_dir();
    let layers: Vec<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
    for source in source::all().iter().filter(|source| source.layer() == "bin") {
        let foreign = arrows(&source.code());
        let foreign: Vec<_> =
            foreign.iter().filter(|name| layers.contains(&name.as_str()) && !own(name)).collect();
        assert!(foreign.is_empty(), "{}: {foreign:?}", source.path.display());
    }
}
