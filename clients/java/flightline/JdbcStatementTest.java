package flightline;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Statements: what is asked, changed, wrong and cancelled. */
class JdbcStatementTest {
  private static long number(Connection connection, String sql) throws SQLException {
    try (Statement statement = connection.createStatement();
        ResultSet rows = statement.executeQuery(sql)) {
      assertTrue(rows.next());
      return rows.getLong(1);
    }
  }

  @Test
  void aMillionRowsAreReadAsAStream() throws SQLException {
    String sql = "SELECT a.value AS n, a.value * 0.5 AS half, 'row ' || a.value AS name FROM generate_series(1, 1000000) AS a";
    try (Connection connection = Server.connect();
        Statement statement = connection.createStatement();
        ResultSet rows = statement.executeQuery(sql)) {
      long count = 0;
      long sum = 0;
      while (rows.next()) {
        count++;
        sum += rows.getLong("n");
        if (count % 100_000 == 0) {
          assertEquals(rows.getLong("n") * 0.5, rows.getDouble("half"));
          assertEquals("row " + rows.getLong("n"), rows.getString("name"));
        }
      }
      assertEquals(1_000_000, count);
      assertEquals(500_000_500_000L, sum);
    }
  }

  @Test
  void oneStatementManyQueriesAndManyAtOnce() throws SQLException {
    try (Connection connection = Server.connect();
        Statement first = connection.createStatement();
        Statement second = connection.createStatement()) {
      for (int turn = 0; turn < 3; turn++) {
        assertTrue(first.execute("SELECT origin FROM weather GROUP BY origin ORDER BY origin"));
        try (ResultSet origins = first.getResultSet();
            ResultSet one = second.executeQuery("SELECT " + turn)) {
          assertTrue(origins.next() && one.next());
          assertEquals("EWR", origins.getString(1));
          assertEquals(turn, one.getInt(1));
        }
      }
    }
  }

  @Test
  void tablesAreMadeFilledChangedAndDropped() throws Exception {
    Server.write(Server.SCRATCH, "witness value=1 1");
    try (Connection connection = Server.connectTo(Server.SCRATCH);
        Statement statement = connection.createStatement()) {
      statement.executeUpdate("CREATE TABLE made (host TAG, load DOUBLE, n BIGINT)");
      String insert = "INSERT INTO made (time, host, load, n) VALUES ('2024-01-01T00:00:00Z', 'a', 0.5, 1), ('2024-01-01T00:00:01Z', 'b', NULL, 2)";
      assertEquals(2, statement.executeUpdate(insert));
      assertEquals(2, number(connection, "SELECT count(*) FROM made"), "once, although it was prepared first");
      assertFalse(statement.execute("INSERT INTO made (time, host, n) VALUES ('2024-01-01T00:00:02Z', 'c', 3)"));
      assertEquals(1, statement.getUpdateCount());
      assertEquals(6, number(connection, "SELECT sum(n) FROM made"));
      statement.executeUpdate("DELETE FROM made WHERE host = 'a'");
      assertEquals(5, number(connection, "SELECT sum(n) FROM made"));
      statement.executeUpdate("DROP TABLE made");
      assertThrows(SQLException.class, () -> number(connection, "SELECT count(*) FROM made"));
    }
  }

  @Test
  void oneStatementChangesManyTimes() throws Exception {
    Server.write(Server.SCRATCH, "witness value=1 1");
    try (Connection connection = Server.connectTo(Server.SCRATCH);
        Statement statement = connection.createStatement()) {
      statement.executeUpdate("CREATE TABLE batched (n BIGINT)");
      for (int n = 0; n < 3; n++) {
        assertEquals(1, statement.executeUpdate("INSERT INTO batched (time, n) VALUES (" + n + ", " + n + ")"));
      }
      assertEquals(3, number(connection, "SELECT count(*) FROM batched"));
    }
  }

  @Test
  void whatIsWrongIsSaid() throws SQLException {
    String[][] wrong = {
      {"SELEC 1", "SELEC"},
      {"SELECT * FROM hurricanes", "hurricanes"},
      {"SELECT snowfall FROM weather", "snowfall"},
      {"SELECT 1 / (distance - 2475) FROM flights", "ivide by zero"},
    };
    try (Connection connection = Server.connect()) {
      for (String[] case_ : wrong) {
        SQLException error = assertThrows(SQLException.class, () -> drain(connection, case_[0]), case_[0]);
        String said = JdbcConnectionTest.everythingThatIsSaid(error);
        assertTrue(said.contains(case_[1]), said);
      }
      assertEquals(1, number(connection, "SELECT 1"), "the connection is as good as before");
    }
    try (Connection connection = Server.connectTo("atlantis")) {
      SQLException error = assertThrows(SQLException.class, () -> number(connection, "SELECT 1"));
      assertTrue(JdbcConnectionTest.everythingThatIsSaid(error).contains("atlantis"));
    }
  }

  private static void drain(Connection connection, String sql) throws SQLException {
    try (Statement statement = connection.createStatement();
        ResultSet rows = statement.executeQuery(sql)) {
      while (rows.next()) {
        rows.getObject(1);
      }
    } catch (RuntimeException error) {
      throw new SQLException(error); // the driver wraps what happens while it reads in one or the other
    }
  }

  /** The sine of 10^11 pairs: far more than any machine does before it is cancelled. */
  private static final String ENDLESS =
      "SELECT sum(sin(a.distance * b.distance + a.flight)) AS total FROM flights a, flights b";

  @Test
  @Timeout(value = 120, unit = TimeUnit.SECONDS)
  void aCancelledQueryEndsForTheClientAndOnTheServer() throws Exception {
    try (Connection connection = Server.connect()) {
      // More than any machine has cores: were they to go on, the last query would wait for them.
      for (int turn = 0; turn < 4; turn++) {
        try (Statement statement = connection.createStatement()) {
          // Again and again, because the driver has nothing to cancel before the query is planned.
          ScheduledExecutorService canceller = Executors.newSingleThreadScheduledExecutor();
          canceller.scheduleWithFixedDelay(() -> cancel(statement), 1, 1, TimeUnit.SECONDS);
          assertThrows(
              Exception.class,
              () -> {
                try (ResultSet rows = statement.executeQuery(ENDLESS)) {
                  rows.next();
                }
              });
          canceller.shutdown();
          assertTrue(canceller.awaitTermination(60, TimeUnit.SECONDS));
        }
      }
      assertEquals(26_115, number(connection, "SELECT count(*) FROM weather"));
    }
  }

  private static void cancel(Statement statement) {
    try {
      statement.cancel();
    } catch (SQLException error) {
      throw new IllegalStateException(error);
    }
  }
}
