package flightline;

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.util.Properties;

/** Where the server is: the environment says it, as for the checks in other languages. What is missing is a failure. */
final class Server {
  static final String HOST = required("FLIGHTLINE_HOST");
  static final int PORT = Integer.parseInt(required("FLIGHTLINE_PORT"));
  static final String DATABASE = required("FLIGHTLINE_DATABASE");
  static final String TOKEN = required("FLIGHTLINE_TOKEN");
  /** The same program with TLS and without data. */
  static final int TLS_PORT = Integer.parseInt(required("FLIGHTLINE_TLS_PORT"));
  static final String TLS_TOKEN = required("FLIGHTLINE_TLS_TOKEN");
  /** PEM file with the authority of its certificate. */
  static final String TLS_AUTHORITY = required("FLIGHTLINE_TLS_CA");
  /** What DuckDB answers: the file that expected.py wrote. */
  static final String ANSWERS = required("FLIGHTLINE_ANSWERS");
  /** A database for checks that write; it stays behind. */
  static final String SCRATCH = "java_" + System.nanoTime();

  private Server() {}

  static String required(String name) {
    String value = System.getenv(name);
    if (value == null || value.isEmpty()) {
      throw new IllegalStateException("environment variable " + name + " is not set");
    }
    return value;
  }

  static String url(int port) {
    return "jdbc:arrow-flight-sql://" + HOST + ":" + port;
  }

  /** With a token and without TLS; every property that the driver doesn't know becomes a header. */
  static Connection connect(String... properties) throws SQLException {
    return connectTo(DATABASE, properties);
  }

  static Connection connectTo(String database, String... properties) throws SQLException {
    Properties all = properties("useEncryption", "false", "token", TOKEN, "database", database);
    all.putAll(properties(properties));
    return DriverManager.getConnection(url(PORT), all);
  }

  static Properties properties(String... namesAndValues) {
    Properties properties = new Properties();
    for (int at = 0; at < namesAndValues.length; at += 2) {
      properties.put(namesAndValues[at], namesAndValues[at + 1]);
    }
    return properties;
  }

  /** Line protocol into a database, over plain HTTP: what else these checks need done beside their client. */
  static void write(String database, String lines) throws Exception {
    var request =
        java.net.http.HttpRequest.newBuilder(
                java.net.URI.create("http://" + HOST + ":" + PORT + "/api/v3/write_lp?db=" + database))
            .header("Authorization", "Bearer " + TOKEN)
            .POST(java.net.http.HttpRequest.BodyPublishers.ofString(lines))
            .build();
    var answer =
        java.net.http.HttpClient.newHttpClient().send(request, java.net.http.HttpResponse.BodyHandlers.ofString());
    if (answer.statusCode() != 204) {
      throw new IllegalStateException(answer.statusCode() + ": " + answer.body());
    }
  }
}
