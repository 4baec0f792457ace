//! A tiny client: asks, follows `next`, collects.

use okta_sim::{Org, Reply, Request, Sim, Spec};
use serde_json::Value;

/// Longest walk of any test; a pager that does not end fails instead of hanging.
const PAGES_MAX: usize = 2_000;

/// A small org with everything in it: 400 users, 40 groups, 20 apps.
pub(crate) fn small_sim() -> Sim {
    let spec = Spec { users: 400, groups: 40, apps: 20, ..Spec::default() };
    Sim::new(Org::generate(&spec), "http://okta.test", 7)
}

pub(crate) fn get(sim: &mut Sim, target: &str) -> Reply {
    let target = target.strip_prefix("http://okta.test").unwrap_or(target);
    sim.handle(&Request::get(target))
}

pub(crate) fn json(reply: &Reply) -> Value {
    serde_json::from_str(&reply.body).unwrap_or_else(|error| panic!("{error} in {}", reply.body))
}

/// Asks for something that must be there.
pub(crate) fn get_json(sim: &mut Sim, target: &str) -> Value {
    let reply = get(sim, target);
    assert_eq!(reply.status, 200, "{target}: {}", reply.body);
    json(&reply)
}

/// Asks for something that must fail and returns (status, errorCode).
pub(crate) fn get_error(sim: &mut Sim, target: &str) -> (u16, String) {
    let reply = get(sim, target);
    (reply.status, json(&reply)["errorCode"].as_str().unwrap_or_default().to_owned())
}

/// The link of a kind, from one or several header lines.
pub(crate) fn link(reply: &Reply, kind: &str) -> Option<String> {
    let wanted = format!("rel=\"{kind}\"");
    let lines: Vec<&str> = reply.header_values("link").collect();
    let part = lines.iter().flat_map(|line| line.split(", ")).find(|part| part.ends_with(&wanted))?;
    Some(part.trim_start_matches('<').split('>').next().expect("a URL").to_owned())
}

/// The pages of a list.
pub(crate) fn pages(sim: &mut Sim, target: &str) -> Vec<Vec<Value>> {
    let mut pages = Vec::new();
    let mut next = Some(target.to_owned());
    while let Some(target) = next {
        assert!(pages.len() < PAGES_MAX, "endless walk of {target}");
        let reply = get(sim, &target);
        assert_eq!(reply.status, 200, "{target}: {}", reply.body);
        pages.push(json(&reply).as_array().expect("an array").clone());
        next = link(&reply, "next");
    }
    pages
}

pub(crate) fn walk(sim: &mut Sim, target: &str) -> Vec<Value> {
    pages(sim, target).concat()
}

pub(crate) fn ids(items: &[Value]) -> Vec<String> {
    items.iter().map(|item| item["id"].as_str().expect("an id").to_owned()).collect()
}

pub(crate) fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort_unstable();
    texts
}

/// Percent-encodes a query value.
pub(crate) fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
