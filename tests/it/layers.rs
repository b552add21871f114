//! The layers and their arrows: who may import whom, read from the sources.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// A layer may import itself and those named; `None` is everything.
const ALLOWED: &[(&str, Option<&[&str]>)] = &[
    ("proto", Some(&[])),
    ("net", Some(&[])),
    ("metrics", Some(&[])),
    ("client", Some(&["proto", "net", "metrics"])),
    // `net` for its policies of TLS, and the roots and sessions that all servers share.
    ("pool", Some(&["client", "net", "proto", "metrics"])),
    // `net` for its names of failures and policies, and to tell public addresses.
    ("verify", Some(&["pool", "client", "net", "proto", "metrics"])),
    ("job", Some(&["verify", "proto", "metrics"])),
    ("sandbox", Some(&["proto"])),
    ("blocking", None),
    // The command is a user of the library: `smtp_pool::`, and its own modules by `crate::`.
    ("bin", None),
    ("lib", None),
];

/// A file without its tests may have so many lines.
const MAX_LINES: usize = 500;

/// The layer of a file below `src`.
fn layer(path: &Path) -> String {
    let first = path.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.strip_suffix(".rs").map(str::to_owned).unwrap_or(first)
}

/// The source up to its tests, without comments.
fn code(source: &str) -> String {
    let lines = source.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    let code = lines.filter(|line| !line.trim_start().starts_with("//"));
    code.collect::<Vec<_>>().join("\n")
}

/// What follows `crate::`: the first names, those of a group in braces each.
fn arrows(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    for (at, _) in code.match_indices("crate::") {
        // `$crate::` is a path too; `some_crate::` is not.
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

/// What is wrong with a file.
fn faults(path: &Path, source: &str) -> Vec<String> {
    let own = layer(path);
    let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == own) else {
        return vec![format!("{}: the layer {own} is in no table", path.display())];
    };
    let code = code(source);
    let layers: Vec<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
    let bad = |to: &String| allowed.is_some_and(|allowed| *to != own && !allowed.contains(&to.as_str()));
    let arrows = arrows(&code).into_iter().filter(|to| layers.contains(&to.as_str()) && bad(to));
    arrows.map(|to| format!("{}: {own} may not import {to}", path.display())).collect()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn each_source(mut look: impl FnMut(&Path, &str)) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = sources(&root);
    assert!(files.len() > 30, "{} files found", files.len());
    for file in files {
        look(file.strip_prefix(&root).unwrap(), &fs::read_to_string(&file).unwrap());
    }
}

#[test]
fn no_arrow_leads_upwards() {
    let mut all = Vec::new();
    each_source(|path, source| {
        if !path.ends_with("tests.rs") {
            all.extend(faults(path, source));
        }
    });
    assert!(all.is_empty(), "{all:#?}");
}

#[test]
fn no_file_is_too_long_without_its_tests() {
    each_source(|path, source| {
        let lines = source.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
        assert!(path.ends_with("tests.rs") || lines <= MAX_LINES, "{}: {lines} lines", path.display());
    });
}

#[test]
fn a_planted_arrow_is_found_in_every_form() {
    let path = Path::new("proto/reply.rs");
    for planted in [
        "use crate::client::Session;",
        "use crate::{client::Session, proto::Reply};",
        "use crate::{\n    proto::{Reply, Verb},\n    client,\n};",
        "fn f(_: &crate::client::Session<()>) {}",
        "pub(in crate::client) fn f() {}",
        "macro_rules! m { () => { $crate::client::f() } }",
    ] {
        assert_eq!(faults(path, planted), ["proto/reply.rs: proto may not import client"], "{planted}");
    }
    for harmless in [
        "use crate::proto::Reply;",
        "use crate::{proto::{client::X, Reply}};",
        "//! see [`Session`](crate::client::Session)",
        "use other_crate::client::Session;",
        "#[cfg(test)]\nmod tests { use crate::client::Session; }",
    ] {
        assert_eq!(faults(path, harmless), [""; 0], "{harmless}");
    }
    assert_eq!(faults(Path::new("sandbox/server.rs"), "use crate::net::Stream;").len(), 1);
    assert_eq!(faults(Path::new("blocking/mod.rs"), "use crate::{pool, verify};").len(), 0);
    assert_eq!(faults(Path::new("new/mod.rs"), "").len(), 1, "a layer has to be put into the table");
}

#[test]
fn the_command_uses_the_public_api_only() {
    each_source(|path, source| {
        let own = |name: &String| {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin/smtp-pool");
            folder.join(format!("{name}.rs")).exists() || folder.join(name).is_dir()
        };
        let layers: Vec<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
        if layer(path) == "bin" {
            let foreign = arrows(&code(source));
            let foreign: Vec<_> =
                foreign.iter().filter(|name| layers.contains(&name.as_str()) && !own(name)).collect();
            assert!(foreign.is_empty(), "{}: {foreign:?}", path.display());
        }
    });
}
