package flightline;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.sql.Types;
import java.time.Instant;
import java.time.LocalDateTime;
import java.time.OffsetDateTime;
import java.time.ZonedDateTime;
import java.util.TimeZone;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * What a Java program sees of `time`, in whichever zone it runs.
 *
 * <p>The server's times have no zone and are UTC. Without a zone the driver can read them as a {@link LocalDateTime} or as text, right
 * in every zone; as a {@link Timestamp}, which it also makes of them when it is asked for an object of no class, they are right only
 * where the program's own zone is UTC: it adds the difference of the zones instead of taking it off. With a zone they are right as
 * an {@link Instant}; but then the driver can't make an object of no class, which tools such as DBeaver ask for. So there is none
 * unless a query gives it one.
 */
class JdbcTimesTest {
  private static final TimeZone HERE = TimeZone.getDefault();

  private static final String CLOCK = "2024-07-01T12:00:00.123456789";

  private static final String SQL = "SELECT arrow_cast('" + CLOCK + "', 'Timestamp(ns)') AS time";

  @AfterEach
  void goHome() {
    TimeZone.setDefault(HERE);
  }

  private static ResultSet row(Statement statement, String sql) throws SQLException {
    ResultSet rows = statement.executeQuery(sql);
    assertTrue(rows.next());
    return rows;
  }

  @ParameterizedTest
  @ValueSource(strings = {"UTC", "America/New_York", "Asia/Kolkata"})
  void aTimeIsTheClockOfUtcInEveryZone(String zone) throws SQLException {
    TimeZone.setDefault(TimeZone.getTimeZone(zone));
    try (Connection connection = Server.connect();
        Statement statement = connection.createStatement();
        ResultSet row = row(statement, SQL)) {
      assertEquals(LocalDateTime.parse(CLOCK), row.getObject("time", LocalDateTime.class));
      assertEquals(CLOCK.replace('T', ' '), row.getString("time"));
      assertEquals(Types.TIMESTAMP, row.getMetaData().getColumnType(1));
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"UTC", "America/New_York", "Asia/Kolkata"})
  void withAZoneATimeIsAnInstantInEveryZone(String zone) throws SQLException {
    TimeZone.setDefault(TimeZone.getTimeZone(zone));
    String sql = "SELECT arrow_cast(time, 'Timestamp(ns, \"UTC\")') AS time FROM (" + SQL + ")";
    try (Connection connection = Server.connect();
        Statement statement = connection.createStatement();
        ResultSet row = row(statement, sql)) {
      assertEquals(Instant.parse(CLOCK + "Z"), row.getObject("time", Instant.class));
      assertEquals(OffsetDateTime.parse(CLOCK + "Z"), row.getObject("time", OffsetDateTime.class));
      assertEquals(ZonedDateTime.parse(CLOCK + "Z[UTC]"), row.getObject("time", ZonedDateTime.class));
      assertEquals(Types.TIMESTAMP_WITH_TIMEZONE, row.getMetaData().getColumnType(1));
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"UTC"})
  void aTimestampIsRightWhereTheProgramsZoneIsUtc(String zone) throws SQLException {
    TimeZone.setDefault(TimeZone.getTimeZone(zone));
    try (Connection connection = Server.connect();
        Statement statement = connection.createStatement();
        ResultSet row = row(statement, SQL)) {
      Timestamp expected = Timestamp.from(Instant.parse(CLOCK + "Z"));
      assertEquals(expected, row.getTimestamp("time"));
      assertEquals(expected, row.getObject("time"));
    }
  }
}
