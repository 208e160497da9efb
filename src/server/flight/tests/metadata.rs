//! What drivers ask of tables, columns, keys and the server.

use super::*;

#[tokio::test]
async fn every_function_that_is_announced_is_there() {
    let service = service(&["nyc"]).await;
    // NUMERIC, STRING, SYSTEM and DATETIME functions.
    let info = service.rows(&CommandGetSqlInfo { info: vec![509, 510, 511, 512] }, &[]).await.unwrap();
    let known =
        service.rows(&query("SELECT DISTINCT routine_name FROM information_schema.routines"), &[]).await.unwrap();
    let known = texts(&known, "routine_name");
    // These are syntax and not functions.
    let syntax =
        ["extract", "overlay", "position", "current_date", "current_time", "current_timestamp", "struct", "trim"];
    assert_eq!(info.num_rows(), 4);
    for list in texts(&info, "value") {
        let names = list.trim_start_matches(|c| c != '[').trim_matches(['[', ']', '{', '}']).split(", ");
        for name in names.map(|name| name.trim_matches('"')) {
            assert!(known.iter().any(|known| known == name) || syntax.contains(&name), "{name}");
        }
    }
}

#[tokio::test]
async fn a_table_is_found_by_every_filter_that_drivers_use() {
    let service = service(&["nyc"]).await;
    let all = CommandGetTables::default();
    let types = |types: &[&str]| CommandGetTables {
        table_types: types.iter().map(|word| (*word).to_owned()).collect(),
        db_schema_filter_pattern: Some("iox".to_owned()),
        ..CommandGetTables::default()
    };
    let named = |pattern: &str| CommandGetTables {
        table_name_filter_pattern: Some(pattern.to_owned()),
        db_schema_filter_pattern: Some("i__".to_owned()),
        ..CommandGetTables::default()
    };
    let catalog = |name: &str| CommandGetTables {
        catalog: Some(name.to_owned()),
        db_schema_filter_pattern: Some("iox".to_owned()),
        ..CommandGetTables::default()
    };
    let both = ["a_b", "weather"].as_slice();
    for (command, found) in [
        (types(&[]), both),
        (types(&["BASE TABLE", "table"]), both),
        (types(&["TABLE"]), both),
        (types(&["base table"]), both),
        (types(&["VIEW"]), &[]),
        (types(&["SOFA"]), &[]),
        (named("%"), both),
        (named("weath__"), &["weather"]),
        (named("weather"), &["weather"]),
        (named("a\\_b"), &["a_b"]),
        (named("\\%"), &[]),
        (named("Weather"), &[]),
        (catalog("public"), both),
        (catalog(""), &[]),
        (catalog("Public"), &[]),
    ] {
        let rows = service.rows(&command, &[]).await.unwrap();
        assert_eq!(texts(&rows, "table_name"), found, "{command:?}");
        assert!(texts(&rows, "table_type").iter().all(|word| word == "BASE TABLE"));
    }
    let words = service.rows(&all, &[("x-influxdata-base-table-type", "TABLE")]).await.unwrap();
    assert!(texts(&words, "table_type").contains(&"TABLE".to_owned()));
    assert!(texts(&words, "db_schema_name").contains(&"information_schema".to_owned()));
    assert!(texts(&words, "table_type").contains(&"VIEW".to_owned()));
}

#[tokio::test]
async fn the_listed_columns_of_a_table_are_those_of_select_star() {
    let service = service(&["nyc"]).await;
    let command = CommandGetTables {
        table_name_filter_pattern: Some("weather".to_owned()),
        include_schema: true,
        ..CommandGetTables::default()
    };
    let rows = service.rows(&command, &[]).await.unwrap();
    let message = rows.column_by_name("table_schema").unwrap().as_binary::<i32>().value(0).to_vec();
    let listed = Schema::try_from(arrow_flight::IpcMessage(message.into())).unwrap();
    let selected = service.rows(&query("SELECT * FROM weather"), &[]).await.unwrap().schema();
    let plain = |schema: &Schema| {
        let field = |field: &Arc<Field>| (field.name().clone(), field.data_type().clone(), field.is_nullable());
        schema.fields().iter().map(field).collect::<Vec<_>>()
    };
    assert_eq!(plain(&listed), plain(&selected));
    let region = listed.field_with_name("region").unwrap().metadata();
    assert_eq!(region["ARROW:FLIGHT:SQL:TYPE_NAME"], "VARCHAR");
    assert_eq!(region["ARROW:FLIGHT:SQL:TABLE_NAME"], "weather");
    assert_eq!(region["iox::column::type"], "iox::column_type::tag");
}

#[tokio::test]
async fn every_metadata_command_answers_with_the_columns_of_the_protocol() {
    let service = service(&["nyc"]).await;
    let table = || "weather".to_owned();
    let keys = "pk_catalog_name?,pk_db_schema_name?,pk_table_name,pk_column_name,fk_catalog_name?,fk_db_schema_name?,\
        fk_table_name,fk_column_name,key_sequence,fk_key_name?,pk_key_name?,update_rule,delete_rule";
    check(&service, &CommandGetCatalogs {}, "catalog_name", 1).await;
    check(&service, &CommandGetDbSchemas::default(), "catalog_name?,db_schema_name", 3).await;
    let none = CommandGetDbSchemas { catalog: None, db_schema_filter_pattern: Some("zz%".to_owned()) };
    check(&service, &none, "catalog_name?,db_schema_name", 0).await;
    let none = CommandGetTables { table_types: vec!["none".to_owned()], include_schema: true, ..Default::default() };
    check(&service, &none, "catalog_name?,db_schema_name?,table_name,table_type,table_schema", 0).await;
    check(&service, &CommandGetTableTypes {}, "table_type", 2).await;
    let primary = CommandGetPrimaryKeys { catalog: None, db_schema: None, table: table() };
    let columns = "catalog_name?,db_schema_name?,table_name,column_name,key_sequence,key_name?";
    check(&service, &primary, columns, 3).await;
    check(&service, &CommandGetPrimaryKeys { table: "none".to_owned(), ..primary.clone() }, columns, 0).await;
    check(&service, &CommandGetPrimaryKeys { db_schema: Some("x".to_owned()), ..primary }, columns, 0).await;
    check(&service, &CommandGetExportedKeys { table: table(), ..Default::default() }, keys, 0).await;
    check(&service, &CommandGetImportedKeys { table: table(), ..Default::default() }, keys, 0).await;
    check(&service, &CommandGetCrossReference { pk_table: table(), fk_table: table(), ..Default::default() }, keys, 0)
        .await;
    let columns = "type_name,data_type,column_size?,literal_prefix?,literal_suffix?,create_params?,nullable,case_sensitive,\
        searchable,unsigned_attribute?,fixed_prec_scale,auto_increment?,local_type_name?,minimum_scale?,maximum_scale?,\
        sql_data_type,datetime_subcode?,num_prec_radix?,interval_precision?";
    check(&service, &CommandGetXdbcTypeInfo { data_type: None }, columns, 18).await;
    check(&service, &CommandGetXdbcTypeInfo { data_type: Some(12) }, columns, 1).await;
    check(&service, &CommandGetXdbcTypeInfo { data_type: Some(999) }, columns, 0).await;
    check(&service, &CommandGetSqlInfo { info: vec![0, 8, 4_000_000_000] }, "info_name,value", 2).await;
    check(&service, &CommandGetSqlInfo { info: vec![4_000_000_000] }, "info_name,value", 0).await;
}

/// `columns` are names, with `?` after those that can be null.
async fn check(service: &Service, command: &(impl ProstMessageExt + std::fmt::Debug), columns: &str, row_count: usize) {
    let rows = service.rows(command, &[]).await.unwrap();
    let got: Vec<String> = rows
        .schema()
        .fields()
        .iter()
        .map(|field| format!("{}{}", field.name(), if field.is_nullable() { "?" } else { "" }))
        .collect();
    assert_eq!((got.join(",").as_str(), rows.num_rows()), (columns, row_count), "{:?}", command.as_any());
}

#[tokio::test]
async fn the_primary_key_of_a_table_is_its_tags_in_series_order_and_time() {
    let service = service(&["nyc"]).await;
    let command = CommandGetPrimaryKeys { catalog: None, db_schema: None, table: "weather".to_owned() };
    let rows = service.rows(&command, &[]).await.unwrap();
    assert_eq!(texts(&rows, "column_name"), ["station", "region", "time"]);
    assert_eq!(texts(&rows, "key_sequence"), ["1", "2", "3"]);
}

#[tokio::test]
async fn metadata_is_there_before_a_database_is_chosen() {
    let service = service(&["nyc", "boston"]).await;
    assert_eq!(service.rows(&CommandGetCatalogs {}, &[]).await.unwrap().num_rows(), 1);
    assert_eq!(service.rows(&CommandGetDbSchemas::default(), &[]).await.unwrap().num_rows(), 3);
    assert_eq!(service.rows(&CommandGetTables::default(), &[]).await.unwrap().num_rows(), 0);
    assert!(service.rows(&CommandGetTables::default(), &[("database", "nyc")]).await.unwrap().num_rows() > 2);
    let unknown = service.rows(&CommandGetTables::default(), &[("database", "paris")]).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test]
async fn server_facts_are_known_codes_in_the_member_of_the_union_that_drivers_read() {
    let service = service(&["nyc"]).await;
    let rows = service.rows(&CommandGetSqlInfo { info: vec![] }, &[]).await.unwrap();
    let codes = rows.column(0).as_primitive::<arrow::datatypes::UInt32Type>();
    let known: Vec<u32> = (0..10).chain([100, 101]).chain(500..577).collect();
    assert_eq!(codes.values().as_ref(), known, "codes that an old JDBC driver does not know kill it");
    let values = rows.column(1).as_any().downcast_ref::<arrow::array::UnionArray>().unwrap();
    let member = |code: u32| values.type_id(known.iter().position(|known| *known == code).unwrap());
    for (code, expected) in [
        (0, 0),
        (504, 0),
        (3, 1),
        (503, 2),
        (505, 2),
        (507, 2),
        (562, 2),
        (557, 2),
        (8, 3),
        (528, 3),
        (508, 4),
        (517, 5),
    ] {
        assert_eq!(member(code), expected, "{code}");
    }
}

#[test]
fn filter_patterns_are_those_of_like_with_a_backslash_before_plain_signs() {
    let found = |pattern: Option<&str>| {
        let texts = ["a_b", "axb", "a%b", ""];
        let matching = matches(texts.into_iter(), pattern).unwrap();
        texts.into_iter().enumerate().filter(|(row, _)| matching.value(*row)).map(|(_, text)| text).collect::<Vec<_>>()
    };
    assert_eq!(found(None), ["a_b", "axb", "a%b", ""]);
    assert_eq!(found(Some("%")), ["a_b", "axb", "a%b", ""]);
    assert_eq!(found(Some("a_b")), ["a_b", "axb", "a%b"]);
    assert_eq!(found(Some("a\\_b")), ["a_b"]);
    assert_eq!(found(Some("a\\%b")), ["a%b"]);
    assert_eq!(found(Some("")), [""]);
    assert!(found(Some("A_B")).is_empty());
}
