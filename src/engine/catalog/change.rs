//! Every way in which the catalog can change.

use std::time::Duration;

use uuid::Uuid;

use super::state::TokenHash;
use crate::model::{
    CacheDefinition, CacheKind, Column, DataFile, DatabaseId, DatabaseName, FileId, Rights, RowSelection, Sequence,
    TableId, TableName, TableSchema, Timestamp,
};

/// One step from a state to the next. Steps of one commit happen together or not at all.
#[derive(Debug, Clone, PartialEq)]
pub enum CatalogChange {
    /// A database with the state's next number.
    CreateDatabase {
        /// The next number.
        id: DatabaseId,
        /// A name that is free.
        name: DatabaseName,
    },
    /// A table with the state's next number.
    CreateTable {
        /// An existing database.
        database: DatabaseId,
        /// The next number.
        id: TableId,
        /// A name that is free in the database.
        name: TableName,
        /// Its first columns.
        schema: TableSchema,
    },
    /// More columns, at the end of the table's own. Columns that it has already are left as they are.
    AddColumns {
        /// The table.
        table: TableId,
        /// Tags in the order in which they join the series key, and fields. None twice.
        columns: Vec<Column>,
    },
    /// The database goes for good with its tables; their files become garbage. The name is free, the numbers are not.
    DeleteDatabase {
        /// The database, deleted already or not.
        id: DatabaseId,
    },
    /// The table goes for good; its files become garbage. The name is free, the number is not.
    DeleteTable {
        /// The table, deleted already or not.
        id: TableId,
    },
    /// The database can't be seen any more, nor its tables, and can be brought back. Its name is free.
    SoftDeleteDatabase {
        /// The database. If it is deleted already, only its time changes.
        id: DatabaseId,
        /// When it goes for good; `None`: never by itself.
        hard_delete_at: Option<Timestamp>,
    },
    /// The table can't be seen any more and can be brought back. Its name is free.
    SoftDeleteTable {
        /// The table. If it is deleted already, only its time changes.
        id: TableId,
        /// When it goes for good; `None`: never by itself.
        hard_delete_at: Option<Timestamp>,
    },
    /// The database is back, with the tables that were deleted with it.
    UndeleteDatabase {
        /// A deleted database.
        id: DatabaseId,
        /// A name that is free.
        name: DatabaseName,
    },
    /// The table is back, with all its rows.
    UndeleteTable {
        /// A deleted table of a database that is not deleted.
        id: TableId,
        /// A name that is free in the database.
        name: TableName,
    },
    /// Rows of the database's tables are seen for so long after their time; of tables with a period of their own for that.
    SetDatabaseRetention {
        /// The database.
        id: DatabaseId,
        /// `None`: for ever.
        period: Option<Duration>,
    },
    /// Rows of the table are seen for so long after their time.
    SetTableRetention {
        /// The table.
        id: TableId,
        /// `None`: as long as the database says.
        period: Option<Duration>,
    },
    /// Which retention policy of the database is meant where a request of InfluxDB 1 names none.
    SetDefaultPolicy {
        /// The database.
        id: DatabaseId,
        /// The policy, which is a database of its own or none; `None`: the database itself.
        policy: Option<String>,
    },
    /// All writes of the table up to one are in files now.
    Persisted {
        /// The table, which may be a deleted one that can be brought back.
        table: TableId,
        /// Files with writes after those that were persisted before, and none after `through`. May be empty.
        files: Vec<DataFile>,
        /// The last write that needs no log any more; larger than before.
        through: Sequence,
    },
    /// Other files hold the rows of some of the table's files now; those become garbage.
    ReplaceFiles {
        /// The table.
        table: TableId,
        /// Files of the table.
        removed: Vec<FileId>,
        /// New files with writes of the removed ones, and of no others. May be empty.
        added: Vec<DataFile>,
    },
    /// Rows of the table that are in its files now are gone. Files of which nothing is left become garbage at once.
    DeleteRows {
        /// The table.
        table: TableId,
        /// Which rows.
        rows: RowSelection,
    },
    /// A write-ahead log takes over: the process that has it is the one that writes from now on, and the commits of
    /// whoever wrote before are refused.
    OpenLog {
        /// Which log: that of a data directory, or the catalog's own number for the log in the store.
        log: Uuid,
        /// The next epoch.
        epoch: u64,
        /// Where an operator finds it.
        place: String,
    },
    /// What earlier epochs left in the store's log is read, and nothing more can be added to it.
    RecoverLog {
        /// The epoch that has the log.
        epoch: u64,
    },
    /// All rows of the log are in files: any other log may take over.
    CloseLog {
        /// The epoch that has the log.
        epoch: u64,
    },
    /// The next numbers of files belong to whoever made this change, used or not.
    ReserveFileIds {
        /// How many. They are the ones right below [`super::CatalogState::next_file_id`] afterwards.
        count: u64,
    },
    /// The objects are gone. Paths that are no garbage are ignored, because two nodes may collect the same.
    CollectGarbage {
        /// Where they were.
        paths: Vec<String>,
    },
    /// A cache of the table.
    CreateCache {
        /// The table.
        table: TableId,
        /// A name that is free among the table's caches of this kind, and columns that the table has.
        cache: CacheDefinition,
    },
    /// The cache is gone; its name is free.
    DeleteCache {
        /// The table.
        table: TableId,
        /// Of which kind.
        kind: CacheKind,
        /// Its name.
        name: String,
    },
    /// A token with the state's next number.
    CreateToken {
        /// The next number.
        id: u64,
        /// A name that is free.
        name: String,
        /// What the token hashes to.
        hash: TokenHash,
        /// What its holder may do.
        rights: Rights,
        /// From when on it is worth nothing; `None`: never by itself.
        expires_at: Option<Timestamp>,
    },
    /// The token is worth nothing any more. Its name is free, its number is not.
    DeleteToken {
        /// Its name.
        name: String,
    },
}
