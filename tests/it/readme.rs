//! Checks the claims of the README and the other pages: settings, links to files, and names of tests.

use std::{fs, path::Path};

use smtp_pool::pool::Config;

/// Defaults in words, which are no value of the setting.
const IN_WORDS: [&str; 5] = ["none", "never", "any", "the host's name", "RFC 5321 4.5.3.2"];

#[test]
fn the_table_of_settings_has_each_key_and_its_default() {
    let error = Config::from_vars([("SMTP_NO_SUCH_KEY", "")]).unwrap_err().to_string();
    let known: Vec<&str> = error.split_once("known are ").unwrap().1.split(", ").collect();

    let (_, chapter) = include_str!("../../docs/configuration.md").split_once("## Keys\n").unwrap();
    let (section, _) = chapter.split_once("\n## ").unwrap();
    let mut said = Vec::new();
    for row in section.lines().filter_map(|line| line.strip_prefix("| `")) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let default = cells[1].trim_end_matches(" s").trim_matches('`');
        for key in cells[0].trim_end_matches('`').split("`, `") {
            said.push(key);
            if !IN_WORDS.contains(&default) {
                let name = format!("SMTP_{}", key.to_uppercase());
                assert_eq!(Config::from_vars([(name, default)]).unwrap(), Config::default(), "{key}");
            }
        }
    }
    assert_eq!(said, known);
}

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Returns the files that a page links to, relative to its folder.
fn linked(page: &str) -> Vec<&str> {
    let inline = page.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let is_definition = |line: &&str| line.starts_with('[') && !line.starts_with("[^");
    let defined = page.lines().filter(is_definition).filter_map(|line| line.split_once("]: "));
    let targets = inline.map(|(target, _)| target).chain(defined.map(|(_, target)| target));
    let files = targets.map(|target| target.split('#').next().unwrap_or_default());
    files.filter(|file| !file.is_empty() && !file.contains("://")).collect()
}

#[test]
fn each_link_to_a_file_leads_there() {
    let (mut count, mut pages) = (0, Vec::new());
    for page in [
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "NOTICES.md",
        "protocol-notes.md",
        "benches/README.md",
    ] {
        pages.push(Path::new(ROOT).join(page));
    }
    for entry in fs::read_dir(Path::new(ROOT).join("docs")).unwrap() {
        pages.push(entry.unwrap().path());
    }
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for file in linked(&text) {
            // A published package has no `fuzz/`.
            let is_left_out = file.starts_with("fuzz/") && !Path::new(ROOT).join("fuzz").exists();
            assert!(is_left_out || page.with_file_name(file).exists(), "{}: {file}", page.display());
            count += 1;
        }
    }
    assert!(count > 10, "{count} links");
}

/// Publication puts the address of the repository in front of these links.
#[test]
fn links_of_the_readme_to_files_are_defined_at_its_end() {
    let readme = include_str!("../../README.md");
    let (text, definitions) = readme.rsplit_once("\n\n[").unwrap();
    assert!(!definitions.contains("\n\n"), "no text stands behind the definitions");
    assert_eq!(linked(text), [""; 0]);
}

/// Adds the paths of the functions of a source below `folder`: `module::function`.
fn functions(folder: &Path, module: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let inner = if name == "mod" { module.to_owned() } else { format!("{module}{name}::") };
        if path.is_dir() {
            functions(&path, &inner, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).unwrap();
            let names = source.split("fn ").skip(1).filter_map(|rest| rest.split_once('('));
            found.extend(names.map(|(name, _)| format!("{inner}{name}")));
        }
    }
}

/// Returns the names behind `option` in the commands of a page.
fn selected<'a>(page: &'a str, option: &str) -> Vec<&'a str> {
    let rest = page.split(option).skip(1);
    let words = rest.filter_map(|rest| rest.split(['`', ' ', '\n']).next());
    words.filter(|word| !word.is_empty()).collect()
}

#[test]
fn each_test_that_is_named_exists() {
    for (folder, option) in [("tests/it", "--test it "), ("src", "--lib ")] {
        let mut known = Vec::new();
        functions(&Path::new(ROOT).join(folder), "", &mut known);
        let pages = [include_str!("../../docs/promises.md"), include_str!("../../SECURITY.md")];
        let names: Vec<&str> = pages.iter().flat_map(|page| selected(page, option)).collect();
        assert!(names.len() > 4, "{names:?}");
        for name in names {
            assert!(known.iter().any(|known| known.contains(name)), "{option}{name}");
        }
    }
}
