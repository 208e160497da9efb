package flightline;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Types;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Every question through JDBC: the answer is DuckDB's answer over the same rows. */
class JdbcAnswersTest {
  private static final Map<String, Integer> TYPES =
      Map.of("text", Types.VARCHAR, "whole", Types.BIGINT, "real", Types.DOUBLE, "time", Types.TIMESTAMP, "truth", Types.BOOLEAN);

  @ParameterizedTest
  @MethodSource("flightline.Answers#all")
  void theAnswerIsThatOfDuckDb(Answers.Answer answer) throws SQLException {
    try (Connection connection = Server.connect();
        // Prepared, as every statement is for the server: if no rows come, the driver shows each column of others twice.
        PreparedStatement statement = connection.prepareStatement(answer.sql);
        ResultSet result = statement.executeQuery()) {
      ResultSetMetaData columns = result.getMetaData();
      assertEquals(answer.columns.size(), columns.getColumnCount());
      for (int at = 0; at < answer.columns.size(); at++) {
        assertEquals(answer.columns.get(at).get(0), columns.getColumnLabel(at + 1));
        assertEquals(TYPES.get(answer.columns.get(at).get(1)), columns.getColumnType(at + 1), answer.names().get(at));
      }
      answer.check(rows(result, answer));
    }
  }

  private static List<Object[]> rows(ResultSet result, Answers.Answer answer) throws SQLException {
    List<Object[]> rows = new ArrayList<>();
    while (result.next()) {
      Object[] row = new Object[answer.columns.size()];
      for (int at = 0; at < row.length; at++) {
        row[at] = answer.isTime(at) ? nanoseconds(result.getObject(at + 1, LocalDateTime.class)) : result.getObject(at + 1);
      }
      rows.add(row);
    }
    return rows;
  }

  /** A timestamp without a zone is the clock of UTC: see {@link JdbcTimesTest}. */
  static Long nanoseconds(LocalDateTime clock) {
    return clock == null ? null : clock.toEpochSecond(ZoneOffset.UTC) * 1_000_000_000 + clock.getNano();
  }
}
