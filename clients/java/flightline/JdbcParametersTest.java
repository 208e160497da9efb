package flightline;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.ParameterMetaData;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.sql.Types;
import java.time.LocalDateTime;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Prepared statements: parameters of every type, nulls, batches. The driver sends times in milliseconds, as the clock shows them. */
class JdbcParametersTest {
  private Connection connection;

  @BeforeEach
  void connect() throws Exception {
    Server.write(Server.SCRATCH, "witness value=1 1");
    connection = Server.connectTo(Server.SCRATCH);
  }

  @AfterEach
  void close() throws SQLException {
    connection.close();
  }

  private void table(String name) throws SQLException {
    try (Statement statement = connection.createStatement()) {
      statement.executeUpdate(
          "CREATE TABLE " + name + " (place TAG, whole BIGINT, positive BIGINT UNSIGNED, real DOUBLE, truth BOOLEAN, note VARCHAR)");
    }
  }

  private static final String COLUMNS = "(time, place, whole, positive, real, truth, note)";

  private List<List<Object>> rows(String sql, Object... parameters) throws SQLException {
    try (PreparedStatement statement = connection.prepareStatement(sql)) {
      for (int at = 0; at < parameters.length; at++) {
        statement.setObject(at + 1, parameters[at]);
      }
      List<List<Object>> rows = new ArrayList<>();
      try (ResultSet result = statement.executeQuery()) {
        while (result.next()) {
          List<Object> row = new ArrayList<>();
          for (int column = 1; column <= result.getMetaData().getColumnCount(); column++) {
            boolean isTime = result.getMetaData().getColumnType(column) == Types.TIMESTAMP;
            row.add(isTime ? result.getObject(column, LocalDateTime.class) : result.getObject(column));
          }
          rows.add(row);
        }
      }
      return rows;
    }
  }

  @Test
  void valuesOfEveryTypeAndNullsGoInAndComeBack() throws SQLException {
    table("every_type");
    String insert = "INSERT INTO every_type " + COLUMNS + " VALUES (?, ?, ?, ?, ?, ?, ?)";
    try (PreparedStatement statement = connection.prepareStatement(insert)) {
      ParameterMetaData parameters = statement.getParameterMetaData();
      assertEquals(7, parameters.getParameterCount());
      statement.setTimestamp(1, Timestamp.valueOf("2024-02-29 12:34:56.123"));
      statement.setString(2, "pier");
      statement.setLong(3, Long.MIN_VALUE);
      statement.setLong(4, Long.MAX_VALUE);
      statement.setDouble(5, 5e-324);
      statement.setBoolean(6, true);
      statement.setString(7, "\u00e4 \"quoted\" 'text' \ud83d\ude80");
      assertEquals(1, statement.executeUpdate());

      statement.setTimestamp(1, Timestamp.valueOf("2024-02-29 12:34:57"));
      statement.setString(2, "tower");
      statement.setNull(3, Types.BIGINT);
      statement.setNull(4, Types.BIGINT);
      statement.setNull(5, Types.DOUBLE);
      statement.setBoolean(6, false);
      statement.setNull(7, Types.VARCHAR);
      assertEquals(1, statement.executeUpdate());

      statement.setTimestamp(1, Timestamp.valueOf("2024-02-29 12:34:58"));
      statement.setNull(2, Types.VARCHAR);
      statement.setInt(3, -1);
      statement.setShort(4, (short) 1);
      statement.setFloat(5, 0.5f);
      statement.setNull(6, Types.BOOLEAN);
      statement.setString(7, "");
      assertEquals(1, statement.executeUpdate());
    }
    String select = "SELECT place, whole, CAST(positive AS BIGINT), real, truth, note, time FROM every_type ORDER BY time";
    List<List<Object>> expected =
        List.of(
            Arrays.asList("pier", Long.MIN_VALUE, Long.MAX_VALUE, 5e-324, true, "\u00e4 \"quoted\" 'text' \ud83d\ude80",
                LocalDateTime.parse("2024-02-29T12:34:56.123")),
            Arrays.asList("tower", null, null, null, false, null, LocalDateTime.parse("2024-02-29T12:34:57")),
            Arrays.asList(null, -1L, 1L, 0.5, null, "", LocalDateTime.parse("2024-02-29T12:34:58")));
    assertEquals(expected, rows(select));
    assertEquals(expected.subList(0, 1), rows(select.replace("ORDER", "WHERE place = ? AND truth = ? AND real < ? ORDER"), "pier", true, 1.0));
    assertEquals(expected.subList(0, 2), rows(select.replace("ORDER", "WHERE time BETWEEN ? AND ? ORDER"),
        Timestamp.valueOf("2024-02-29 12:34:56"), Timestamp.valueOf("2024-02-29 12:34:57")));
  }

  @Test
  void aStatementIsExecutedAgainWithOtherValues() throws SQLException {
    try (Connection flights = Server.connect();
        PreparedStatement statement = flights.prepareStatement("SELECT count(*) FROM weather WHERE origin = ? AND temp > ?")) {
      assertEquals(2, statement.getParameterMetaData().getParameterCount());
      Object[][] cases = {{"JFK", 0.0}, {"LGA", 0.0}, {"JFK", 500.0}};
      long[] counts = new long[cases.length];
      for (int at = 0; at < cases.length; at++) {
        statement.setString(1, (String) cases[at][0]);
        statement.setDouble(2, (Double) cases[at][1]);
        try (ResultSet rows = statement.executeQuery()) {
          assertTrue(rows.next());
          counts[at] = rows.getLong(1);
        }
      }
      assertArrayEquals(new long[] {8706, 8706, 0}, counts);
    }
  }

  @Test
  void moreThanNineParametersStayInOrder() throws SQLException {
    String places = String.join(" || ", java.util.Collections.nCopies(12, "CAST(? AS VARCHAR)"));
    Object[] letters = "a b c d e f g h i j k l".split(" ");
    assertEquals(List.of(List.of("abcdefghijkl")), rows("SELECT " + places, letters));
    String numbered = String.join(" || ", "CAST($12 AS VARCHAR)", "$1", "$2", "$3", "$4", "$5", "$6", "$7", "$8", "$9", "$10", "$11");
    assertEquals(List.of(List.of("labcdefghijk")), rows("SELECT " + numbered, letters));
  }

  @Test
  void aParameterIsOfTheTypeThatItIsCastTo() throws SQLException {
    assertEquals(List.of(List.of("x")), rows("SELECT ? AS said", "x"), "where nothing tells the type it is text");
    assertEquals(List.of(List.of(0.5)), rows("SELECT CAST(? AS DOUBLE) AS number", 0.5));
    assertEquals(List.of(List.of(5L)), rows("SELECT CAST(? AS BIGINT) AS number", 5L));
    assertEquals(List.of(List.of(new BigDecimal("1.25"))), rows("SELECT CAST(? AS DECIMAL(10, 2)) AS exact", new BigDecimal("1.25")));
  }

  @Test
  void aBatchOfRowsIsInsertedAndCounted() throws SQLException {
    table("many_rows");
    int rows = 600; // the server plans up to 500 together
    String insert = "INSERT INTO many_rows " + COLUMNS + " VALUES (?, ?, ?, ?, ?, ?, ?)";
    try (PreparedStatement statement = connection.prepareStatement(insert)) {
      for (int row = 0; row < rows; row++) {
        statement.setTimestamp(1, new Timestamp(1_700_000_000_000L + row));
        statement.setString(2, "place " + row % 7);
        statement.setLong(3, row);
        statement.setLong(4, row);
        if (row % 3 == 0) {
          statement.setNull(5, Types.DOUBLE);
        } else {
          statement.setDouble(5, row * 0.25);
        }
        statement.setBoolean(6, row % 2 == 0);
        statement.setString(7, "note " + row);
        statement.addBatch();
      }
      assertEquals(rows, Arrays.stream(statement.executeBatch()).sum());
    }
    assertEquals(
        List.of(List.of(600L, 400L, 179_700L, 7L)),
        rows("SELECT count(*), count(real), sum(whole), count(DISTINCT place) FROM many_rows"));
  }

  @Test
  void deletingByValues() throws SQLException {
    table("shrinking");
    try (Statement statement = connection.createStatement()) {
      statement.executeUpdate("INSERT INTO shrinking (time, place, whole) VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)");
    }
    try (PreparedStatement statement = connection.prepareStatement("DELETE FROM shrinking WHERE place = ?")) {
      statement.setString(1, "b");
      statement.executeUpdate();
    }
    assertEquals(List.of(List.of("a"), List.of("c")), rows("SELECT place FROM shrinking ORDER BY time"));
  }
}
