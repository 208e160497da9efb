//! One database as DataFusion sees it: catalog `public`, schema `iox`, a table for each table, and schema `system`.
//!
//! A session has the tables of its own database and no way to name another's. `information_schema` is
//! DataFusion's own view of what is here.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::datasource::TableType;
use datafusion::error::Result as DataFusionResult;

use super::running::SeenQueries;
use super::system::SystemTables;
use super::table::Table;
use super::{CATALOG, SYSTEM_SCHEMA, TABLE_SCHEMA};
use crate::engine::Engine;
use crate::model::{DatabaseName, TableSchema, Tables};

/// The tables of one database. The three traits are its three levels.
#[derive(Debug, Clone)]
pub(super) struct DatabaseTables {
    engine: Arc<Engine>,
    database: DatabaseName,
    /// The others can't be seen.
    seen: Tables,
    /// The queries that may be known of.
    queries: SeenQueries,
}

impl DatabaseTables {
    pub(super) fn new(engine: Arc<Engine>, database: DatabaseName, seen: Tables, queries: SeenQueries) -> Self {
        Self { engine, database, seen, queries }
    }

    fn schema_of(&self, table: &str) -> Option<Arc<TableSchema>> {
        if self.seen.contains(table) { self.engine.table_schema(&self.database, table) } else { None }
    }
}

impl CatalogProviderList for DatabaseTables {
    /// Nothing can be registered: the catalog is the engine's.
    fn register_catalog(&self, _: String, _: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == CATALOG).then(|| Arc::new(self.clone()) as Arc<dyn CatalogProvider>)
    }
}

impl CatalogProvider for DatabaseTables {
    fn schema_names(&self) -> Vec<String> {
        vec![TABLE_SCHEMA.to_owned(), SYSTEM_SCHEMA.to_owned()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        match name {
            TABLE_SCHEMA => Some(Arc::new(self.clone())),
            SYSTEM_SCHEMA => {
                let (engine, database) = (Arc::clone(&self.engine), self.database.clone());
                Some(Arc::new(SystemTables::new(engine, database, self.seen.clone(), self.queries.clone())))
            }
            _ => None,
        }
    }
}

#[async_trait]
impl SchemaProvider for DatabaseTables {
    fn table_names(&self) -> Vec<String> {
        // A database that is deleted while a query is planned has no tables.
        let tables = self.engine.tables(&self.database).unwrap_or_default();
        let seen = tables.iter().filter(|name| self.seen.contains(name.as_str()));
        seen.map(|name| name.as_str().to_owned()).collect()
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        let Some(schema) = self.schema_of(name) else { return Ok(None) };
        Ok(Some(Arc::new(Table::new(Arc::clone(&self.engine), self.database.clone(), name, schema))))
    }

    async fn table_type(&self, name: &str) -> DataFusionResult<Option<TableType>> {
        Ok(self.table_exist(name).then_some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.schema_of(name).is_some()
    }
}
