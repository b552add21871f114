//! The verifier against the sandbox: every behaviour of a server, and the verdict that it deserves.

use smtp_pool::{
    sandbox::{Sandbox, World},
    verify::{Blame, CatchAll, Status, SubStatus},
};

use crate::support::{config, sandbox, verify};

#[tokio::test]
async fn the_demo_list_gets_the_verdicts_it_deserves() {
    let sandbox = Sandbox::start(World::demo()).await.unwrap();
    let list = include_str!("../../examples/addresses.csv");
    let rows: Vec<Vec<String>> =
        list.lines().skip(1).map(|line| line.rsplitn(3, ',').map(str::to_owned).collect()).collect();
    // Column 3 holds the identifier and the address, quoted where it holds quotes.
    let address = |row: &Vec<String>| {
        let (_, address) = row[2].split_once(',').unwrap();
        match address.strip_prefix('"') {
            Some(quoted) => quoted.trim_end_matches('"').replace("\"\"", "\""),
            None => address.to_owned(),
        }
    };
    let addresses: Vec<String> = rows.iter().map(address).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let records = verify(config(&sandbox), &addresses).await;
    let mut wrong = Vec::new();
    for (row, record) in rows.iter().zip(&records) {
        let json = serde_json::to_value(record).unwrap();
        if json["status"] != row[1].as_str() || json["sub_status"] != row[0].as_str() {
            wrong.push(format!("{row:?}\n{record:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
