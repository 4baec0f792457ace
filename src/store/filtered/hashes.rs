//! Salted hashes of ids and names: what is known of those who are filtered.
//!
//! Entry points: [`Filtered::note`], [`Filtered::put_names`]; [`Filtered::find`], [`Filtered::has_name`].
//!
//! Names are kept in two forms, so that each field can be compared by the rule of its app: as they are, and folded as e-mail
//! addresses are. Both are HMAC-SHA256 under 128 random bits of this store, cut to 128 bits.

use ring::hmac;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::super::apply::N;
use super::super::columns::kind_code;
use super::super::{StoreError, as_i64, missing};
use crate::core::ids::{AppId, RequestNumber, Timestamp, UserId};
use crate::core::model::{AppUser, Kind, User};
use crate::core::normalize::{Identifier, NameRule};
use crate::core::resolve::NameField;

/// Bytes of a hash: no two of the names of any org meet in 128 bits.
const HASH_BYTES: usize = 16;

/// `filtered_objects.kind` of a user of whom nobody knows yet whether it is wanted.
pub(super) const UNKNOWN: i64 = 0;

type Hash = [u8; HASH_BYTES];

/// Number under which a field is stored: never change one.
const fn code(field: NameField) -> i64 {
    match field {
        NameField::Login => 1,
        NameField::PrimaryEmail => 2,
        NameField::UserName => 3,
        NameField::ExternalId => 4,
        NameField::AppEmail => 5,
        NameField::SecondEmail => 6,
    }
}

/// The hashes of a store. Invariant: made from its salt only.
pub(in crate::store) struct Filtered {
    key: hmac::Key,
}

impl Filtered {
    /// With the store's salt; `None` when nothing was ever filtered.
    pub(in crate::store) fn read(sql: &Connection) -> Result<Option<Self>, StoreError> {
        let mut select = sql.prepare_cached("SELECT value FROM meta WHERE name = 'filter_salt'")?;
        let salt: Option<Vec<u8>> = select.query_row((), |row| row.get(0)).optional()?;
        Ok(salt.map(|salt| Self { key: hmac::Key::new(hmac::HMAC_SHA256, &salt) }))
    }

    /// The same, with a new salt where there is none.
    pub(in crate::store) fn open(sql: &Connection) -> Result<Self, StoreError> {
        sql.execute("INSERT OR IGNORE INTO meta(name, value) VALUES ('filter_salt', randomblob(16))", ())?;
        Self::read(sql)?.ok_or_else(|| StoreError::Damaged { detail: "it has no salt".to_owned() })
    }

    fn hash(&self, parts: [&str; 3]) -> Hash {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut hash = Hash::default();
        hash.copy_from_slice(&context.sign().as_ref()[..HASH_BYTES]);
        hash
    }

    fn id(&self, kind: Kind, id: &str) -> Hash {
        self.hash(["id", kind.name(), id])
    }

    fn folded(&self, app: &str, name: Identifier<'_>) -> Hash {
        self.hash(["folded", app, name.normalize(NameRule::IgnoreCase).as_str()])
    }

    fn exact(&self, app: &str, name: Identifier<'_>) -> Hash {
        self.hash(["exact", app, name.as_str()])
    }

    /// The number of an object that is known to be filtered.
    pub(in crate::store) fn find(&self, sql: &Connection, kind: Kind, id: &str) -> Result<Option<N>, StoreError> {
        let mut select = sql.prepare_cached("SELECT n FROM filtered_objects WHERE kind = ?1 AND hash = ?2")?;
        Ok(select.query_row(params![kind_code(kind), self.id(kind, id)], |row| row.get(0)).optional()?)
    }

    /// Whether somebody who is filtered has this name, in an app or (`None`) as login or e-mail, in one of the fields, each
    /// compared by its rule.
    pub(in crate::store) fn has_name(
        &self,
        sql: &Connection,
        app: Option<&AppId>,
        name: Identifier<'_>,
        fields: &[(NameField, NameRule)],
    ) -> Result<bool, StoreError> {
        let n = match app {
            None => Some(0),
            Some(app) => missing::find(sql, Kind::App, app.as_str())?,
        };
        let Some(n) = n else { return Ok(false) };
        let app = app.map_or("", AppId::as_str);
        let is_folded = |rule| match rule {
            NameRule::Exact => false,
            NameRule::IgnoreCase => true,
            NameRule::Default => name.is_email_shaped(),
        };
        let exact = self.exact(app, name);
        let mut select = sql.prepare_cached(
            "SELECT x.field, x.exact FROM filtered_names x JOIN filtered_objects o ON o.n = x.owner
             WHERE x.app = ?1 AND x.folded = ?2 AND o.kind <> ?3",
        )?;
        let mut rows = select.query(params![n, self.folded(app, name), UNKNOWN])?;
        while let Some(row) = rows.next()? {
            let (field, stored): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
            let is_same =
                |(known, rule): &(NameField, NameRule)| code(*known) == field && (stored == exact || is_folded(*rule));
            if fields.iter().any(is_same) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Notes that an object is filtered. `is_renewed`: also that it was read by this request.
    pub(in crate::store) fn note(
        &self,
        sql: &Connection,
        key: (Kind, &str),
        (at, last_updated): (RequestNumber, Option<Timestamp>),
        is_renewed: bool,
    ) -> Result<N, StoreError> {
        let (kind, id) = key;
        if let Some(n) = self.find(sql, kind, id)? {
            if is_renewed {
                let mut update =
                    sql.prepare_cached("UPDATE filtered_objects SET at = ?2, last_updated = ?3 WHERE n = ?1")?;
                update.execute(params![n, as_i64(at.0), last_updated.map(Timestamp::as_millis)])?;
            }
            return Ok(n);
        }
        if kind == Kind::User
            && let Some(n) = self.unknown(sql, id)?
        {
            sql.prepare_cached("UPDATE filtered_objects SET kind = ?2 WHERE n = ?1")?.execute([n, kind_code(kind)])?;
            return Ok(n);
        }
        let mut insert =
            sql.prepare_cached("INSERT INTO filtered_objects(kind, hash, at, last_updated) VALUES (?1, ?2, ?3, ?4)")?;
        let last_updated = last_updated.map(Timestamp::as_millis);
        Ok(insert.insert(params![kind_code(kind), self.id(kind, id), as_i64(at.0), last_updated])?)
    }

    fn unknown(&self, sql: &Connection, id: &str) -> Result<Option<N>, StoreError> {
        let mut select = sql.prepare_cached("SELECT n FROM filtered_objects WHERE kind = ?1 AND hash = ?2")?;
        Ok(select.query_row(params![UNKNOWN, self.id(Kind::User, id)], |row| row.get(0)).optional()?)
    }

    /// A number for a user of whom nobody knows yet whether it is wanted: the names of its accounts are kept for the case
    /// that it is not.
    pub(in crate::store) fn note_unknown(
        &self,
        sql: &Connection,
        user: &UserId,
        at: RequestNumber,
    ) -> Result<N, StoreError> {
        if let Some(n) = self.unknown(sql, user.as_str())? {
            return Ok(n);
        }
        let mut insert = sql.prepare_cached("INSERT INTO filtered_objects(kind, hash, at) VALUES (?1, ?2, ?3)")?;
        Ok(insert.insert(params![UNKNOWN, self.id(Kind::User, user.as_str()), as_i64(at.0)])?)
    }

    /// Forgets an object; returns the number that it had.
    pub(in crate::store) fn forget(&self, sql: &Connection, kind: Kind, id: &str) -> Result<Option<N>, StoreError> {
        let found = self.find(sql, kind, id)?;
        let unknown = if kind == Kind::User { self.unknown(sql, id)? } else { None };
        for n in found.into_iter().chain(unknown) {
            forget(sql, n)?;
        }
        Ok(found)
    }

    /// Takes the names of one account (or, with `None`, of the user itself) in place of those known before.
    pub(in crate::store) fn put_names(
        &self,
        sql: &Connection,
        owner: N,
        app: Option<(N, &AppId)>,
        names: &[(NameField, Option<&str>)],
    ) -> Result<(), StoreError> {
        let (n, app) = app.map_or((0, ""), |(n, app)| (n, app.as_str()));
        let mut new: Vec<(Hash, i64, Hash)> = Vec::with_capacity(names.len());
        for (field, name) in names {
            if let Some(name) = name.and_then(|name| Identifier::new(name).ok()) {
                new.push((self.folded(app, name), code(*field), self.exact(app, name)));
            }
        }
        new.sort_unstable();
        let mut select = sql.prepare_cached(
            "SELECT folded, field, exact FROM filtered_names WHERE owner = ?1 AND app = ?2 ORDER BY folded, field",
        )?;
        let stored = select.query_map([owner, n], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let stored = stored.collect::<Result<Vec<(Hash, i64, Hash)>, _>>()?;
        if stored == new {
            return Ok(());
        }
        sql.prepare_cached("DELETE FROM filtered_names WHERE owner = ?1 AND app = ?2")?.execute([owner, n])?;
        let mut insert = sql.prepare_cached(
            "REPLACE INTO filtered_names(app, folded, owner, field, exact) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        for (folded, field, exact) in new {
            insert.execute(params![n, folded, owner, field, exact])?;
        }
        Ok(())
    }
}

/// Forgets an object with its names.
pub(super) fn forget(sql: &Connection, n: N) -> Result<(), StoreError> {
    sql.prepare_cached("DELETE FROM filtered_names WHERE owner = ?1")?.execute([n])?;
    sql.prepare_cached("DELETE FROM filtered_objects WHERE n = ?1")?.execute([n])?;
    Ok(())
}

/// The names of an account.
pub(super) fn account_names(row: &AppUser) -> [(NameField, Option<&str>); 3] {
    [
        (NameField::UserName, row.user_name.as_deref()),
        (NameField::ExternalId, row.external_id.as_deref()),
        (NameField::AppEmail, row.email.as_deref()),
    ]
}

/// The names of a user.
pub(super) fn user_names(row: &User) -> [(NameField, Option<&str>); 2] {
    [(NameField::Login, row.login.as_deref()), (NameField::PrimaryEmail, row.email.as_deref())]
}
