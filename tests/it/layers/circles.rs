//! No circle of files inside a layer: a reader of one file need not read all others first.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{self, Named, Outline, Source};

/// The files of one crate, by the modules that they are.
struct Files<'a> {
    outlines: BTreeMap<Vec<String>, (&'a Source, Outline)>,
}

impl<'a> Files<'a> {
    fn of(sources: impl Iterator<Item = &'a Source>) -> Self {
        let outlines = sources.map(|source| (source.module(), (source, Outline::of(source))));
        Self { outlines: outlines.collect() }
    }

    /// Returns the module of the file that a path from the root of the crate leads to.
    fn file(&self, path: &[String], mut hops: usize) -> Option<Vec<String>> {
        let mut module = Vec::new();
        for (at, name) in path.iter().enumerate() {
            let deeper = [&module[..], std::slice::from_ref(name)].concat();
            if self.outlines.contains_key(&deeper) {
                module = deeper;
                continue;
            }
            let (_, outline) = self.outlines.get(&module)?;
            if outline.items.contains(name) {
                break;
            }
            let mut reexports = outline.names.iter().filter(|named| named.within == module);
            if let Some(named) = reexports.find(|named| named.alias.as_ref() == Some(name)) {
                hops = hops.checked_sub(1)?;
                let path = [self.absolute(named)?, path[at + 1..].to_vec()].concat();
                return self.file(&path, hops);
            }
            break;
        }
        self.outlines.contains_key(&module).then_some(module)
    }

    /// Returns a path from the root of the crate; none for one that leads to another crate.
    fn absolute(&self, named: &Named) -> Option<Vec<String>> {
        let mut module = named.within.clone();
        let mut segments = named.segments.as_slice();
        match segments.first()?.as_str() {
            "crate" => {
                module.clear();
                segments = &segments[1..];
            }
            "self" => segments = &segments[1..],
            "super" => {
                while segments.first().is_some_and(|name| name == "super") {
                    module.pop()?;
                    segments = &segments[1..];
                }
            }
            first => {
                let child = [&module[..], &[first.to_owned()]].concat();
                if !self.outlines.contains_key(&child) {
                    let (_, outline) = self.outlines.get(&module)?;
                    let mut imports = outline.names.iter().filter(|import| import.within == module);
                    let import = imports.find(|import| import.alias.as_deref() == Some(first))?;
                    if import == named || import.segments.first().map(String::as_str) == Some(first) {
                        return None;
                    }
                    return Some([self.absolute(import)?, segments[1..].to_vec()].concat());
                }
            }
        }
        Some([module, segments.to_vec()].concat())
    }

    /// Returns the files that each file names, of the same layer only.
    fn arrows(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut arrows = BTreeMap::new();
        for (source, outline) in self.outlines.values().filter(|(source, _)| !source.is_test()) {
            let to: &mut BTreeSet<String> = arrows.entry(source.path.display().to_string()).or_default();
            for named in outline.names.iter().filter(|named| !named.is_reexport) {
                let Some(module) = self.absolute(named).and_then(|path| self.file(&path, 8)) else {
                    continue;
                };
                let (other, _) = &self.outlines[&module];
                if other.path != source.path && other.layer() == source.layer() && !other.is_test() {
                    to.insert(other.path.display().to_string());
                }
            }
        }
        arrows
    }
}

/// Returns the circles: sets of files each of which names all others, by way of others or not.
fn circles(sources: &[Source]) -> Vec<Vec<String>> {
    let (bin, lib): (Vec<_>, Vec<_>) = sources.iter().partition(|source| source.path.starts_with("bin"));
    let mut arrows = Files::of(lib.into_iter()).arrows();
    arrows.extend(Files::of(bin.into_iter()).arrows());
    let mut reached = BTreeMap::new();
    for from in arrows.keys() {
        let (mut seen, mut todo) = (BTreeSet::new(), vec![from]);
        while let Some(file) = todo.pop() {
            todo.extend(arrows[file].iter().filter(|to| seen.insert(*to)));
        }
        reached.insert(from, seen);
    }
    let mut circles = BTreeSet::new();
    for (from, to) in &reached {
        let circle: Vec<String> =
            to.iter().filter(|other| reached[**other].contains(from)).map(ToString::to_string).collect();
        if !circle.is_empty() {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

#[test]
fn no_files_of_a_layer_name_each_other_in_a_circle() {
    let found = circles(&source::all());
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_planted_circle_is_found_in_every_form() {
    let found = |files: &[(&str, &str)]| {
        circles(&files.iter().map(|(path, text)| Source::new(path, text)).collect::<Vec<_>>())
    };
    let module = ("pool/mod.rs", "mod a;\nmod b;\npub use self::{a::A, b::B as C};");
    for [a, b] in [
        ["use super::b::B;", "use super::a::A;"],
        ["use super::{b::{self, B}, key::Key};", "fn f() -> crate::pool::a::A { loop {} }"],
        // By the names that the module gives them.
        ["use super::C;", "use crate::pool::A;"],
        ["use crate::pool::{self, Key};\nfn f() { pool::b::g() }", "pub(super) fn f(_: super::A) {}"],
        ["use super::b as other;\nfn f() { other::g() }", "mod inline {\n    use super::super::a::A;\n}"],
        ["use super::b::*;", "#[cfg(test)]\nmod tests;\nuse super::a::A;"],
    ] {
        let a = format!("pub struct A;\n{a}");
        let b = format!("pub struct B;\nfn g() {{}}\n{b}");
        let circle = found(&[module, ("pool/a.rs", &a), ("pool/b.rs", &b)]);
        assert_eq!(circle, [["pool/a.rs", "pool/b.rs"]], "{a} {b}");
    }
    let by_way = found(&[
        ("pool/mod.rs", "mod a;\nmod b;\nmod c;\nmod d;"),
        ("pool/a.rs", "use super::b::B;"),
        ("pool/b.rs", "pub struct B;\nuse super::c::C;"),
        ("pool/c.rs", "pub struct C;\nfn f() { super::a::g() }"),
        ("pool/d.rs", "use super::a::g;"),
    ]);
    assert_eq!(by_way, [["pool/a.rs", "pool/b.rs", "pool/c.rs"]]);
    // A file and one below it.
    let below = found(&[
        ("client/mod.rs", "mod session;"),
        ("client/session.rs", "mod one;\npub struct Session(one::One);"),
        ("client/session/one.rs", "pub struct One;\nuse super::Session;"),
    ]);
    assert_eq!(below, [["client/session.rs", "client/session/one.rs"]]);
}

#[test]
fn what_is_no_circle_is_not_taken_for_one() {
    for b in [
        "",
        "use std::a::A;",
        "// use super::a::A;\n/// See [`A`](super::a::A).",
        "const TEXT: &str = \"super::a::A\";",
        "const TEXT: &str = r#\"\"super::a::A\"#;",
        "pub use super::a::A;",
        "fn f(a: char) -> bool { a == '\"' }\n#[cfg(test)]\nmod tests {\n    use super::super::a::A;\n}",
    ] {
        let b = format!("pub struct B;\n{b}");
        let sources = [
            Source::new("pool/mod.rs", "mod a;\nmod b;"),
            Source::new("pool/a.rs", "pub struct A;\nuse super::b::B;"),
            Source::new("pool/b.rs", &b),
            Source::new("pool/b/tests.rs", "use super::super::a::A;\nuse super::B;"),
        ];
        assert_eq!(circles(&sources), [[""; 0]; 0], "{b}");
    }
}
