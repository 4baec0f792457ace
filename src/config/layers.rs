//! The values of all sources side by side, and the one place where precedence is decided. Entry points: [`Layers::put`],
//! [`Reader::take`].
//!
//! Invariants:
//! - For one key the value of the highest source wins: flag, environment, file. An org's own value wins over the top
//!   level's, whatever sources the two have: it is the more specific statement.
//! - Every value that was given is checked, also one that is overridden: a mistake does not wait for the day when the
//!   variable that hides it is gone.
//! - Every value that is taken is recorded with its source, so that `config` can show it; secrets are recorded masked.

use std::collections::BTreeMap;

use super::error::{ConfigError, Source, escaped};
use super::file;
use super::spec::{Given, Raw, Spec, Wrong, check_name, quoted};

/// Entries of one table of rules. An org has some hundred apps, few of which compare names in their own way; a server has
/// fewer clients.
const RULES_MAX: usize = 1_000;

/// A key of the top level (`org` is `None`) or of one org.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Address {
    pub(super) org: Option<String>,
    /// The table, empty for keys outside of any: `crawl`.
    pub(super) section: String,
    /// The key in it: `interval`.
    pub(super) key: String,
}

impl Address {
    pub(super) fn new(org: Option<&str>, section: &str, key: &str) -> Self {
        Self { org: org.map(str::to_owned), section: section.to_owned(), key: key.to_owned() }
    }

    /// From `crawl.interval` or `data_dir`.
    pub(super) fn from_path(org: Option<&str>, path: &str) -> Self {
        let (section, key) = path.split_once('.').unwrap_or(("", path));
        Self::new(org, section, key)
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(org) = &self.org {
            write!(f, "orgs.{org}.")?;
        }
        if !self.section.is_empty() {
            write!(f, "{}.", self.section)?;
        }
        f.write_str(&self.key)
    }
}

/// All values that were given.
#[derive(Default)]
pub(super) struct Layers {
    values: BTreeMap<Address, Vec<Given>>,
    orgs: BTreeMap<String, Source>,
}

impl Layers {
    /// Adds a value. Two different values from the same kind of source are refused: which of them wins would be chance.
    pub(super) fn put(&mut self, address: Address, given: Given) -> Result<(), ConfigError> {
        if let Some(org) = &address.org {
            self.declare_org(org, &given.source);
        }
        let values = self.values.entry(address.clone()).or_default();
        match values.iter().find(|other| other.source.rank() == given.source.rank()) {
            Some(other) if other.raw == given.raw => return Ok(()),
            Some(other) => {
                let (first, second) = (other.source.clone(), given.source);
                return Err(ConfigError::GivenTwice { key: address.to_string(), first, second });
            }
            None => values.push(given),
        }
        values.sort_by_key(|given| given.source.rank());
        Ok(())
    }

    /// Notes that an org exists, even one without a single key.
    pub(super) fn declare_org(&mut self, org: &str, source: &Source) {
        self.orgs.entry(org.to_owned()).or_insert_with(|| source.clone());
    }

    /// The orgs and where each was first named.
    pub(super) fn orgs(&self) -> &BTreeMap<String, Source> {
        &self.orgs
    }

    /// The values of a key, highest precedence first.
    pub(super) fn get(&self, org: Option<&str>, section: &str, key: &str) -> &[Given] {
        self.values.get(&Address::new(org, section, key)).map_or(&[], Vec::as_slice)
    }
}

/// A value that is in force, for people.
#[derive(Clone, Debug)]
pub(super) struct Effective {
    pub(super) address: Address,
    /// The value as TOML, `"***"` for a secret.
    pub(super) rendered: String,
    pub(super) source: Source,
    /// Whether an org has it from the top level.
    pub(super) inherited: bool,
    /// What the key takes.
    pub(super) expects: String,
}

/// Reads keys of the top level or of one org; gathers what is wrong and what is in force.
pub(super) struct Reader<'a> {
    pub(super) layers: &'a Layers,
    pub(super) org: Option<&'a str>,
    pub(super) problems: &'a mut Vec<ConfigError>,
    pub(super) record: &'a mut Vec<Effective>,
}

impl Reader<'_> {
    /// The value of a key: the org's or top level's own, else `base` (what the top level has), else the default.
    pub(super) fn take<S: Spec>(&mut self, section: &str, key: &str, spec: &S, base: Option<&S::Value>) -> S::Value {
        let address = Address::new(self.org, section, key);
        let given = self.layers.get(self.org, section, key);
        let mut own: Option<(S::Value, Source)> = None;
        for given in given {
            match spec.parse(&given.raw) {
                Ok(value) => own = own.or(Some((value, given.source.clone()))),
                Err(wrong) => self.refuse(&address, given, wrong, spec.expects()),
            }
        }
        let inherited = own.is_none() && base.is_some();
        let (value, source) = own.unwrap_or_else(|| match base {
            Some(value) => (value.clone(), self.source_of_base(section, key)),
            None => (spec.default_value(), Source::Default),
        });
        let rendered = spec.render(&value);
        self.record.push(Effective { address, rendered, source, inherited, expects: spec.expects() });
        value
    }

    /// The entries of a table whose keys are names that people gave. Entries of all sources and of the top level are joined; for
    /// the same name the higher source wins, and the org over the top level.
    pub(super) fn take_rules<S: Spec>(
        &mut self,
        section: &str,
        key: &str,
        rule: &S,
        base: Option<&BTreeMap<String, S::Value>>,
    ) -> BTreeMap<String, S::Value> {
        let address = Address::new(self.org, section, key);
        // The table itself has no line of its own; its entries have. It is recorded so that the schema knows it.
        self.record.push(Effective {
            address: address.clone(),
            rendered: String::new(),
            source: Source::Default,
            inherited: false,
            expects: format!("a table from names to {}", rule.expects()),
        });
        let mut entries: BTreeMap<String, (S::Value, Source, bool)> = BTreeMap::new();
        let layers = self.layers;
        for given in layers.get(self.org, section, key) {
            for (name, entry) in self.rule_entries(&address, given, rule) {
                if let Err(reason) = check_name(&name) {
                    self.refuse(&address, &entry, Wrong::Because(reason), String::new());
                    continue;
                }
                match rule.parse(&entry.raw) {
                    Ok(value) => drop(entries.entry(name).or_insert((value, entry.source, false))),
                    Err(wrong) => self.refuse(&address, &entry, wrong, rule.expects()),
                }
            }
        }
        if entries.len() > RULES_MAX {
            let reason = format!("has more than {RULES_MAX} entries");
            let at = entries.values().next().map_or(Source::Default, |(_, source, _)| source.clone());
            self.problems.push(ConfigError::Refused { at, key: address.to_string(), reason });
            return BTreeMap::new();
        }
        let table = format!("{section}.{key}");
        let sources = self.sources_of_base_table(&table);
        for (name, value) in base.into_iter().flatten() {
            let source = sources.get(&quoted(name)).cloned().unwrap_or(Source::Default);
            entries.entry(name.clone()).or_insert((value.clone(), source, true));
        }
        for (name, (value, source, inherited)) in &entries {
            self.record.push(Effective {
                address: Address::new(self.org, &table, &quoted(name)),
                rendered: rule.render(value),
                source: source.clone(),
                inherited: *inherited,
                expects: rule.expects(),
            });
        }
        entries.into_iter().map(|(name, (value, ..))| (name, value)).collect()
    }

    fn rule_entries<S: Spec>(&mut self, address: &Address, given: &Given, rule: &S) -> Vec<(String, Given)> {
        let parsed = match &given.raw {
            Raw::Untyped(text) => file::parse_value(text.trim()),
            other => Some(other.clone()),
        };
        match parsed {
            Some(Raw::Table(entries)) => entries
                .into_iter()
                .map(|(name, mut entry)| {
                    if given.source.rank() < entry.source.rank() {
                        entry.source = given.source.clone();
                    }
                    (name, entry)
                })
                .collect(),
            _ => {
                let expected = format!("a table like {{ \"a name\" = \"…\" }}, each value {}", rule.expects());
                self.refuse(address, given, Wrong::Unlike, expected);
                Vec::new()
            }
        }
    }

    /// Gives a top-level key that nobody gave the source of the key that it follows.
    pub(super) fn follow_source(&mut self, follower: (&str, &str), followed: (&str, &str)) {
        if self.layers.get(None, follower.0, follower.1).is_empty() {
            let source = self.source_of_base(followed.0, followed.1);
            let follower = Address::new(None, follower.0, follower.1);
            if let Some(effective) = self.record.iter_mut().find(|effective| effective.address == follower) {
                effective.source = source;
            }
        }
    }

    /// The sources of a whole table of the top level: one walk over the record, not one per entry.
    fn sources_of_base_table(&self, table: &str) -> BTreeMap<String, Source> {
        let of_table = |effective: &&Effective| effective.address.org.is_none() && effective.address.section == table;
        let entries = self.record.iter().filter(of_table);
        entries.map(|effective| (effective.address.key.clone(), effective.source.clone())).collect()
    }

    /// Where a key of the top level has its value from.
    pub(super) fn source_of_base(&self, section: &str, key: &str) -> Source {
        let base = Address::new(None, section, key);
        self.record
            .iter()
            .find(|effective| effective.address == base)
            .map_or(Source::Default, |effective| effective.source.clone())
    }

    /// Records a problem with a value.
    pub(super) fn refuse(&mut self, address: &Address, given: &Given, wrong: Wrong, expected: String) {
        let (at, key) = (given.source.clone(), address.to_string());
        self.problems.push(match wrong {
            Wrong::Unlike => ConfigError::Value { at, key, expected, got: given.raw.shown() },
            // A reason may quote a part of the value, changed by a parser on the way: a host in lower case.
            Wrong::Because(reason) => ConfigError::Refused { at, key, reason: escaped(&reason) },
        });
    }
}

/// Every key that exists, found by reading an empty configuration: there is no second list that could differ.
pub(super) struct Schema {
    pub(super) keys: Vec<SchemaKey>,
}

/// One key of the [`Schema`].
pub(super) struct SchemaKey {
    pub(super) section: String,
    pub(super) key: String,
    pub(super) expects: String,
    pub(super) default: Option<String>,
    pub(super) top_level: bool,
    pub(super) per_org: bool,
}

impl SchemaKey {
    /// `crawl.interval`.
    pub(super) fn path(&self) -> String {
        if self.section.is_empty() { self.key.clone() } else { format!("{}.{}", self.section, self.key) }
    }

    /// `CRAWL__INTERVAL`.
    pub(super) fn variable_suffix(&self) -> String {
        self.path().replace('.', "__").to_ascii_uppercase()
    }
}

impl Schema {
    /// The keys that exist at a level.
    pub(super) fn level(&self, in_org: bool) -> impl Iterator<Item = &SchemaKey> {
        self.keys.iter().filter(move |key| if in_org { key.per_org } else { key.top_level })
    }

    pub(super) fn has(&self, in_org: bool, section: &str, key: &str) -> bool {
        self.level(in_org).any(|known| known.section == section && known.key == key)
    }

    pub(super) fn has_section(&self, in_org: bool, section: &str) -> bool {
        !section.is_empty() && self.level(in_org).any(|known| known.section == section)
    }

    /// What may stand directly in a table: its keys; outside of any table also the tables.
    pub(super) fn names(&self, in_org: bool, section: &str) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for known in self.level(in_org) {
            let name = match (section.is_empty(), known.section == section) {
                (_, true) => known.key.clone(),
                (true, false) => known.section.clone(),
                (false, false) => continue,
            };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if section.is_empty() && !in_org {
            names.push("orgs".to_owned());
        }
        names
    }
}
