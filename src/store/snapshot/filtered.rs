//! What is known of those whom the filter keeps out.
//!
//! Entry points: [`Snapshot::is_filtered_user`], [`Snapshot::is_filtered_name`], [`Snapshot::filtered_counts`].

use std::collections::BTreeMap;

use super::super::StoreError;
use super::super::columns::kind_of_code;
use super::super::filtered::Filtered;
use super::Snapshot;
use crate::core::ids::{AppId, GroupId, UserId};
use crate::core::model::{Kind, Scope};
use crate::core::normalize::{Identifier, NameRule};
use crate::core::resolve::NameField;

impl Snapshot<'_> {
    /// Whether the user is known to be kept out.
    pub fn is_filtered_user(&self, user: &UserId) -> Result<bool, StoreError> {
        self.is_filtered(Kind::User, user.as_str())
    }

    /// Whether the group is known to be kept out.
    pub fn is_filtered_group(&self, group: &GroupId) -> Result<bool, StoreError> {
        self.is_filtered(Kind::Group, group.as_str())
    }

    fn is_filtered(&self, kind: Kind, id: &str) -> Result<bool, StoreError> {
        match Filtered::read(self.sql)? {
            Some(hashes) => Ok(hashes.find(self.sql, kind, id)?.is_some()),
            None => Ok(false),
        }
    }

    /// Whether somebody who is kept out is known to have this name, in the app or as login or e-mail, in one of the fields,
    /// each compared by its rule.
    pub fn is_filtered_name(
        &self,
        app: Option<&AppId>,
        name: Identifier<'_>,
        fields: &[(NameField, NameRule)],
    ) -> Result<bool, StoreError> {
        let Some(hashes) = Filtered::read(self.sql)? else { return Ok(false) };
        let has = |app| hashes.has_name(self.sql, app, name, fields);
        Ok(has(None)? || (app.is_some() && has(app)?))
    }

    /// Whether names of anybody who is kept out are known.
    pub fn keeps_filtered_names(&self) -> Result<bool, StoreError> {
        let found = self.rows("SELECT 1 FROM filtered_names LIMIT 1", (), |_| Ok(()))?;
        Ok(!found.is_empty() && Filtered::read(self.sql)?.is_some())
    }

    /// Records that the filter has dropped, by kind, as of the last complete reads.
    pub fn filtered_counts(&self) -> Result<BTreeMap<Kind, u64>, StoreError> {
        let counts = self.rows(
            "SELECT kind, count(*) FROM filtered_objects WHERE kind > 0 GROUP BY kind
             UNION ALL SELECT kind, sum(count) FROM filtered_rows WHERE kind > 3 GROUP BY kind",
            (),
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
        )?;
        let known =
            counts.into_iter().map(|(code, count)| Ok((kind_of_code(code)?, u64::try_from(count).unwrap_or_default())));
        known.collect()
    }

    /// Users and groups that rows named which were not stored because nobody knows them: with the list that named them. A read
    /// by id has been asked for each.
    pub fn undecided(&self, limit: usize) -> Result<Vec<(Scope, Kind, String)>, StoreError> {
        let rows = self.rows(
            "SELECT scope, kind, id FROM undecided WHERE kind <> 0 ORDER BY kind, id, scope LIMIT ?1",
            [super::size(limit)],
            |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?)),
        )?;
        let known = rows.into_iter().filter_map(|(scope, kind, id)| Some((Scope::parse(&scope)?, kind, id)));
        known.map(|(scope, kind, id)| Ok((scope, kind_of_code(kind)?, id))).collect()
    }
}
