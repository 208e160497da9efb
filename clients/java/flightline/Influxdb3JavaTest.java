package flightline;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.influxdb.v3.client.InfluxDBApiHttpException;
import com.influxdb.v3.client.InfluxDBClient;
import com.influxdb.v3.client.Point;
import com.influxdb.v3.client.PointValues;
import com.influxdb.v3.client.config.ClientConfig;
import com.influxdb.v3.client.write.WriteOptions;
import com.influxdb.v3.client.write.WritePrecision;
import java.math.BigInteger;
import java.time.Instant;
import java.time.LocalDateTime;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.apache.arrow.vector.util.Text;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

/** InfluxDB 3's client library, with its own defaults. */
class Influxdb3JavaTest {
  private static final String URL = "http://" + Server.HOST + ":" + Server.PORT;

  private static InfluxDBClient client(String database) {
    return InfluxDBClient.getInstance(URL, Server.TOKEN.toCharArray(), database);
  }

  private static List<Object[]> rows(InfluxDBClient client, String sql) {
    try (Stream<Object[]> rows = client.query(sql)) {
      return rows.toList();
    }
  }

  @ParameterizedTest
  @MethodSource("flightline.Answers#all")
  void theAnswerIsThatOfDuckDb(Answers.Answer answer) throws Exception {
    try (InfluxDBClient client = client(Server.DATABASE)) {
      List<Object[]> rows = rows(client, answer.sql);
      for (Object[] row : rows) {
        for (int column = 0; column < row.length; column++) {
          row[column] = plain(row[column]);
        }
      }
      answer.check(rows);
    }
  }

  /** The library gives values as it likes: those of a table's columns in one way, those that are computed in another. */
  private static Object plain(Object value) {
    if (value instanceof BigInteger time) {
      return time.longValueExact();
    }
    if (value instanceof LocalDateTime time) {
      return JdbcAnswersTest.nanoseconds(time);
    }
    return value instanceof Text text ? text.toString() : value;
  }

  @Test
  void pointsAreWrittenAndReadBack() throws Exception {
    try (InfluxDBClient client = client(Server.SCRATCH)) {
      Point point =
          Point.measurement("points")
              .setTag("place", "the pier, east")
              .setField("temp", 1.5)
              .setField("wind", 3L)
              .setField("dry", true)
              .setField("sky", "blue \"x\", \\ =")
              .setTimestamp(Instant.parse("2024-01-01T00:00:00.000000001Z"));
      client.writePoint(point);
      client.writeRecord("points,place=tower temp=2.5 1704067200000000002");
      client.writeRecords(List.of("points,place=a temp=3 1704067200000000003", "points,place=b temp=4 1704067200000000004"));
      try (Stream<PointValues> read = client.queryPoints("SELECT * FROM points ORDER BY time LIMIT 1")) {
        PointValues values = read.findFirst().orElseThrow();
        assertEquals("the pier, east", values.getTag("place"));
        assertEquals(1.5, values.getFloatField("temp"));
        assertEquals(3L, values.getIntegerField("wind"));
        assertEquals(true, values.getBooleanField("dry"));
        assertEquals("blue \"x\", \\ =", values.getStringField("sky"));
        assertEquals(new BigInteger("1704067200000000001"), values.getTimestamp());
      }
      assertEquals(List.of(4L), Arrays.asList(rows(client, "SELECT count(*) FROM points").get(0)));
    }
  }

  @ParameterizedTest
  @EnumSource(WritePrecision.class)
  void everyPrecision(WritePrecision precision) throws Exception {
    long unit = Map.of("S", 1_000_000_000L, "MS", 1_000_000L, "US", 1_000L, "NS", 1L).get(precision.name());
    try (InfluxDBClient client = client(Server.SCRATCH)) {
      String table = "precision_" + precision.name().toLowerCase();
      client.writeRecord(table + " value=1 1000001", new WriteOptions(null, precision, null));
      assertEquals(1_000_001 * unit, rows(client, "SELECT CAST(time AS BIGINT) FROM " + table).get(0)[0]);
    }
  }

  @Test
  void unsyncedAndCompressedWritesArrive() throws Exception {
    ClientConfig config =
        new ClientConfig.Builder().host(URL).token(Server.TOKEN.toCharArray()).database(Server.SCRATCH).gzipThreshold(1).writeNoSync(true).build();
    try (InfluxDBClient client = InfluxDBClient.getInstance(config)) {
      client.writeRecord("unsynced value=1 1");
      for (int turn = 0; rows(client, "SHOW TABLES").stream().noneMatch(row -> Arrays.toString(row).contains("unsynced")); turn++) {
        assertTrue(turn < 100, "not there after ten seconds");
        Thread.sleep(100);
      }
      assertEquals(1.0, rows(client, "SELECT value FROM unsynced").get(0)[0]);
    }
  }

  @Test
  void parameters() throws Exception {
    try (InfluxDBClient client = client(Server.DATABASE)) {
      Map<String, Object> parameters = Map.of("origin", "JFK", "temp", 0);
      String sql = "SELECT count(*) FROM weather WHERE origin = $origin AND temp > $temp";
      try (Stream<Object[]> rows = client.query(sql, parameters)) {
        assertEquals(8706L, rows.findFirst().orElseThrow()[0]);
      }
    }
  }

  @Test
  void whatIsWrongIsSaid() throws Exception {
    try (InfluxDBClient client = client(Server.SCRATCH);
        InfluxDBClient stranger = InfluxDBClient.getInstance(URL, "wrong".toCharArray(), Server.DATABASE)) {
      client.writeRecord("witness value=1 1");
      Exception unknown = assertThrows(Exception.class, () -> rows(client, "SELECT * FROM hurricanes"));
      assertTrue(JdbcConnectionTest.everythingThatIsSaid(unknown).contains("hurricanes"));
      InfluxDBApiHttpException refused =
          assertThrows(InfluxDBApiHttpException.class, () -> client.writeRecord("witness value=oops 1"));
      assertEquals(400, refused.statusCode());
      refused = assertThrows(InfluxDBApiHttpException.class, () -> stranger.writeRecord("witness value=1 1"));
      assertEquals(401, refused.statusCode());
      assertThrows(Exception.class, () -> rows(stranger, "SELECT 1"));
      assertFalse(client.getServerVersion().isEmpty());
    }
  }

  @Test
  void overTls() throws Exception {
    ClientConfig config =
        new ClientConfig.Builder().host("https://" + Server.HOST + ":" + Server.TLS_PORT).token(Server.TLS_TOKEN.toCharArray())
            .database(Server.DATABASE).sslRootsFilePath(Server.TLS_AUTHORITY).build();
    try (InfluxDBClient client = InfluxDBClient.getInstance(config)) {
      client.writeRecord("tls_from_java value=1 1");
      assertEquals(1.0, rows(client, "SELECT value FROM tls_from_java").get(0)[0]);
    }
  }
}
