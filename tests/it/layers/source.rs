//! Reads Rust sources as far as the rules on files and names need it: tokens, paths, imports, definitions.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// One file below `src`, with its path from there.
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        Self { path: path.into(), text: text.into() }
    }

    /// Returns the layer: the first folder or file name of the path.
    pub(super) fn layer(&self) -> String {
        let first = self.path.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        first.strip_suffix(".rs").map(str::to_owned).unwrap_or(first)
    }

    /// Tells whether the file is a module of tests or of properties for the fuzzer, or below one.
    pub(super) fn is_test(&self) -> bool {
        let mut names = self.path.iter().map(|name| name.to_string_lossy());
        names.any(|name| ["tests", "properties"].contains(&name.strip_suffix(".rs").unwrap_or(&name)))
    }

    /// Returns the path of the module in its crate.
    pub(super) fn module(&self) -> Vec<String> {
        let path = self.path.strip_prefix("bin/smtp-pool").unwrap_or(&self.path).with_extension("");
        let mut names: Vec<String> = path.iter().map(|name| name.to_string_lossy().into_owned()).collect();
        if ["mod", "lib", "main"].contains(&names.last().map_or("", String::as_str)) {
            names.pop();
        }
        names
    }

    /// Returns the lines before the tests of the file.
    pub(super) fn lines(&self) -> impl Iterator<Item = &str> {
        let mut lines = self.text.lines().peekable();
        std::iter::from_fn(move || {
            let mut line = lines.next()?;
            while line.starts_with("#[cfg(test)]") {
                // A module in a file of its own; otherwise the tests, which are the end of the file.
                lines.next().filter(|item| item.ends_with(';'))?;
                line = lines.next()?;
            }
            Some(line)
        })
    }

    /// Returns the lines before the tests of the file, without those that are comments.
    pub(super) fn code(&self) -> String {
        let code = self.lines().filter(|line| !line.trim_start().starts_with("//"));
        code.collect::<Vec<_>>().join("\n")
    }

    /// Returns the tokens before the tests of the file: names, `::`, and all other characters one by one. Comments,
    /// texts and characters in quotes are left out.
    fn tokens(&self) -> Vec<String> {
        let code = self.code();
        let (mut tokens, mut rest) = (Vec::new(), code.as_str());
        while let Some(first) = rest.chars().next() {
            let len = match first {
                c if c.is_alphanumeric() || c == '_' => {
                    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
                    let raw = rest[end..].trim_start_matches('#');
                    if ["r", "br"].contains(&&rest[..end]) && raw.starts_with('"') {
                        let close = format!("\"{}", "#".repeat(rest.len() - end - raw.len()));
                        rest = &raw[1..];
                        rest = &rest[rest.find(&close).map_or(rest.len(), |at| at + close.len())..];
                        continue;
                    }
                    tokens.push(rest[..end].to_owned());
                    end
                }
                ':' if rest.starts_with("::") => {
                    tokens.push("::".to_owned());
                    2
                }
                '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
                '"' => quoted(rest, '"'),
                // A character, and no lifetime.
                '\'' if rest.starts_with("'\\") || rest.chars().nth(2) == Some('\'') => {
                    let escape = usize::from(rest.starts_with("'\\"));
                    1 + escape + quoted(&rest[escape..], '\'') - 1
                }
                c if c.is_whitespace() => c.len_utf8(),
                c => {
                    tokens.push(c.to_string());
                    c.len_utf8()
                }
            };
            rest = &rest[len..];
        }
        tokens
    }
}

/// Returns the length of a text in quotes, both quotes included.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Reads all sources of the crate and of its command.
pub(super) fn all() -> Vec<Source> {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<Source>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source { path: path.strip_prefix(root).unwrap().into(), text });
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    assert!(found.len() > 100, "{} files found", found.len());
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

/// A path in a source, with the module that it stands in.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Named {
    pub(super) within: Vec<String>,
    pub(super) segments: Vec<String>,
    /// The name that an import gives to it; none for a path in code, and `*` for all that a module has.
    pub(super) alias: Option<String>,
    pub(super) is_reexport: bool,
}

/// What a source defines and names.
#[derive(Debug, Default)]
pub(super) struct Outline {
    /// The names of items, those inside of functions and of modules in the same file too.
    pub(super) items: Vec<String>,
    /// Types that other modules see: structs, enums, traits and aliases that are `pub` in any way.
    pub(super) types: Vec<String>,
    pub(super) names: Vec<Named>,
}

impl Outline {
    pub(super) fn of(source: &Source) -> Self {
        let tokens = source.tokens();
        let token = |at: usize| tokens.get(at).map_or("", String::as_str);
        let mut outline = Self::default();
        let mut within = source.module();
        let (mut at, mut depth, mut inline) = (0, 0, Vec::new());
        // Whether the item that begins here is `pub` in some way.
        let mut is_public = false;
        while at < tokens.len() {
            match token(at) {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    if inline.last() == Some(&depth) {
                        inline.pop();
                        within.pop();
                    }
                }
                "pub" => {
                    is_public = true;
                    if token(at + 1) == "(" && ["crate", "super", "self", "in"].contains(&token(at + 2)) {
                        while token(at) != ")" {
                            at += 1;
                        }
                    }
                    at += 1;
                    continue;
                }
                "use" if token(at + 1) != "<" => {
                    at = outline.import(&tokens, at + 1, (&within, is_public), &mut Vec::new());
                }
                "mod" if token(at + 2) == "{" => {
                    inline.push(depth);
                    depth += 1;
                    within.push(tokens[at + 1].clone());
                    at += 2;
                }
                kind @ ("struct" | "enum" | "trait" | "type" | "union" | "fn" | "const" | "static") => {
                    let at = if token(at + 1) == "mut" { at + 2 } else { at + 1 };
                    outline.items.push(token(at).to_owned());
                    if is_public && ["struct", "enum", "trait", "type", "union"].contains(&kind) {
                        outline.types.push(token(at).to_owned());
                    }
                }
                "macro_rules" => outline.items.push(token(at + 2).to_owned()),
                name if is_name(name) && token(at + 1) == "::" => {
                    let mut segments = vec![name.to_owned()];
                    while token(at + 1) == "::" && is_name(token(at + 2)) {
                        segments.push(tokens[at + 2].clone());
                        at += 2;
                    }
                    outline.names.push(Named {
                        within: within.clone(),
                        segments,
                        alias: None,
                        is_reexport: false,
                    });
                }
                _ => {}
            }
            // `pub const fn`, `pub unsafe trait`: still the same item.
            is_public &= ["const", "async", "unsafe", "extern"].contains(&token(at));
            at += 1;
        }
        outline
    }

    /// Takes in a tree of imports; returns where it ends.
    fn import(
        &mut self,
        tokens: &[String],
        mut at: usize,
        (within, is_reexport): (&[String], bool),
        prefix: &mut Vec<String>,
    ) -> usize {
        let depth = prefix.len();
        loop {
            match tokens[at].as_str() {
                "{" => {
                    at += 1;
                    while tokens[at] != "}" {
                        at = self.import(tokens, at, (within, is_reexport), prefix);
                        at += usize::from(tokens[at] == ",");
                    }
                    prefix.truncate(depth);
                    return at + 1;
                }
                "::" => at += 1,
                name => {
                    prefix.push(name.to_owned());
                    at += 1;
                    if tokens[at] != "::" {
                        break;
                    }
                }
            }
        }
        let mut segments = prefix.clone();
        prefix.truncate(depth);
        if segments.last().is_some_and(|last| last == "self") {
            segments.pop();
        }
        let mut alias = segments.last().cloned();
        if alias.as_deref() == Some("*") {
            segments.pop();
        }
        if tokens[at] == "as" {
            alias = Some(tokens[at + 1].clone());
            at += 2;
        }
        self.names.push(Named { within: within.to_vec(), segments, alias, is_reexport });
        at
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}
