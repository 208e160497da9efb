package flightline;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Types;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** What DBeaver, Tableau and the like ask before the first query. */
class JdbcMetadataTest {
  /** What the driver itself doesn't do, whichever the server is. */
  private static final Set<String> NOT_IN_THE_DRIVER =
      Set.of(
          "ownUpdatesAreVisible", "ownDeletesAreVisible", "ownInsertsAreVisible", "othersUpdatesAreVisible",
          "othersDeletesAreVisible", "othersInsertsAreVisible", "updatesAreDetected", "deletesAreDetected",
          "insertsAreDetected", "supportsResultSetHoldability");

  private Connection connection;
  private DatabaseMetaData metadata;

  @BeforeEach
  void connect() throws SQLException {
    connection = Server.connect();
    metadata = connection.getMetaData();
  }

  @AfterEach
  void close() throws SQLException {
    connection.close();
  }

  /** The values of some columns, a row as one text. */
  private static List<String> rows(ResultSet result, String... columns) throws SQLException {
    List<String> rows = new ArrayList<>();
    try (result) {
      while (result.next()) {
        List<String> row = new ArrayList<>();
        for (String column : columns) {
          row.add(String.valueOf(result.getObject(column)));
        }
        rows.add(String.join(" ", row));
      }
    }
    return rows;
  }

  @Test
  void everyGetterAnswers() throws Exception {
    Set<String> failed = new TreeSet<>();
    int asked = 0;
    for (Method method : DatabaseMetaData.class.getMethods()) {
      if (method.getDeclaringClass() != DatabaseMetaData.class || NOT_IN_THE_DRIVER.contains(method.getName())) {
        continue;
      }
      try {
        Object answer = method.invoke(metadata, arguments(method));
        if (answer instanceof ResultSet result) {
          rows(result);
        }
        asked++;
      } catch (InvocationTargetException error) {
        failed.add(method.getName() + ": " + error.getCause());
      }
    }
    assertEquals(Set.of(), failed);
    assertTrue(asked > 150, asked + " methods");
  }

  private static Object[] arguments(Method method) {
    Class<?>[] types = method.getParameterTypes();
    Object[] arguments = new Object[types.length];
    for (int at = 0; at < types.length; at++) {
      if (types[at] == int.class) {
        arguments[at] =
            switch (method.getName()) {
              case "supportsConvert" -> Types.BIGINT;
              case "supportsTransactionIsolationLevel" -> Connection.TRANSACTION_NONE;
              default -> ResultSet.TYPE_FORWARD_ONLY;
            };
      } else if (types[at] == boolean.class) {
        arguments[at] = false;
      } else if (at == 2 && types[at] == String.class) {
        arguments[at] = "weather"; // the table, wherever one is wanted
      } else if (at == 5 && types[at] == String.class) {
        arguments[at] = "flights";
      }
    }
    return arguments;
  }

  @Test
  void itSaysWhatItIsAndCan() throws SQLException {
    assertEquals("Flightline", metadata.getDatabaseProductName());
    assertEquals("\"", metadata.getIdentifierQuoteString());
    assertEquals("\\", metadata.getSearchStringEscape());
    assertTrue(metadata.supportsANSI92EntryLevelSQL());
    assertTrue(metadata.supportsFullOuterJoins());
    assertTrue(metadata.supportsUnionAll());
    assertTrue(metadata.supportsBatchUpdates());
    assertFalse(metadata.supportsTransactions());
    assertFalse(metadata.isReadOnly());
    assertTrue(metadata.supportsConvert());
    assertTrue(metadata.getTimeDateFunctions().contains("date_bin"));
  }

  @Test
  void catalogsSchemasAndTypesOfTables() throws SQLException {
    assertEquals(List.of("public"), rows(metadata.getCatalogs(), "TABLE_CAT"));
    List<String> all = List.of("public information_schema", "public iox", "public system");
    assertEquals(all, rows(metadata.getSchemas(), "TABLE_CATALOG", "TABLE_SCHEM"));
    assertEquals(List.of("iox"), rows(metadata.getSchemas("public", "io_"), "TABLE_SCHEM"));
    assertEquals(List.of(), rows(metadata.getSchemas("attic", null), "TABLE_SCHEM"));
    assertEquals(List.of("BASE TABLE", "VIEW"), rows(metadata.getTableTypes(), "TABLE_TYPE"));
  }

  @Test
  void tablesByEveryFilter() throws SQLException {
    String[] both = {"TABLE_NAME", "TABLE_TYPE"};
    List<String> tables = List.of("flights BASE TABLE", "weather BASE TABLE");
    assertEquals(tables, rows(metadata.getTables(null, "iox", null, null), both));
    assertEquals(tables, rows(metadata.getTables("public", "iox", "%", new String[] {"TABLE"}), both));
    assertEquals(tables, rows(metadata.getTables(null, "i%x", "%t%", new String[] {"BASE TABLE"}), both));
    assertEquals(List.of("weather BASE TABLE"), rows(metadata.getTables(null, null, "weath%", null), both));
    assertEquals(List.of(), rows(metadata.getTables(null, "iox", "Weather", null), both));
    assertEquals(List.of(), rows(metadata.getTables("attic", null, null, null), both));
    assertEquals(List.of(), rows(metadata.getTables(null, "iox", null, new String[] {"VIEW"}), both));
  }

  @Test
  void columnsWithTheirTypes() throws SQLException {
    ResultSet columns = metadata.getColumns(null, null, "weather", "%");
    List<String> expected =
        List.of(
            "dewp 8 DOUBLE 1", "humid 8 DOUBLE 2", "origin 12 VARCHAR 3", "precip 8 DOUBLE 4", "pressure 8 DOUBLE 5",
            "temp 8 DOUBLE 6", "time 93 TIMESTAMP 7", "visib 8 DOUBLE 8", "wind_dir 8 DOUBLE 9",
            "wind_gust 8 DOUBLE 10", "wind_speed 8 DOUBLE 11");
    assertEquals(expected, rows(columns, "COLUMN_NAME", "DATA_TYPE", "TYPE_NAME", "ORDINAL_POSITION"));
    columns = metadata.getColumns("public", "iox", "flights", "dep_%");
    assertEquals(List.of("dep_delay -5 19", "dep_time -5 19"), rows(columns, "COLUMN_NAME", "DATA_TYPE", "COLUMN_SIZE"));
  }

  @Test
  void theKeyOfATableIsItsTagsAndTime() throws SQLException {
    ResultSet keys = metadata.getPrimaryKeys(null, null, "flights");
    Set<String> columns = new TreeSet<>(rows(keys, "COLUMN_NAME"));
    assertEquals(Set.of("carrier", "dest", "origin", "tailnum", "time"), columns);
    assertEquals(List.of(), rows(metadata.getImportedKeys(null, null, "flights"), "PKTABLE_NAME"));
    assertEquals(List.of(), rows(metadata.getExportedKeys(null, null, "flights"), "PKTABLE_NAME"));
  }

  @Test
  void aHeaderChoosesTheWordForTables() throws SQLException {
    try (Connection other = Server.connect("x-influxdata-base-table-type", "TABLE")) {
      assertEquals(List.of("TABLE", "VIEW"), rows(other.getMetaData().getTableTypes(), "TABLE_TYPE"));
    }
  }
}
