package flightline;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Properties;
import org.junit.jupiter.api.Test;

/** The Flight SQL JDBC driver: how it gets in. */
class JdbcConnectionTest {
  private static void assertAnswers(Connection connection) throws SQLException {
    try (Statement statement = connection.createStatement();
        ResultSet rows = statement.executeQuery("SELECT 1 + 1 AS two")) {
      assertTrue(rows.next());
      assertEquals(2, rows.getLong("two"));
      assertFalse(rows.next());
    }
  }

  private static Connection open(int port, String... properties) throws SQLException {
    Properties all = Server.properties(properties);
    all.putIfAbsent("database", Server.DATABASE);
    return DriverManager.getConnection(Server.url(port), all);
  }

  @Test
  void aTokenGetsIn() throws SQLException {
    try (Connection connection = Server.connect()) {
      assertAnswers(connection);
      assertTrue(connection.isValid(5));
    }
  }

  @Test
  void aTokenAsPasswordGetsInWhateverTheUserIsCalled() throws SQLException {
    try (Connection connection =
        open(Server.PORT, "useEncryption", "false", "user", "anybody", "password", Server.TOKEN)) {
      assertAnswers(connection);
    }
  }

  @Test
  void everythingMayStandInTheUrl() throws SQLException {
    String url = Server.url(Server.PORT) + "/?useEncryption=false&database=" + Server.DATABASE + "&token=" + Server.TOKEN;
    try (Connection connection = DriverManager.getConnection(url)) {
      assertAnswers(connection);
    }
  }

  @Test
  void whoeverShowsNothingOrSomethingWrongStaysOutside() throws SQLException {
    String[][] strangers = {
      {"useEncryption", "false", "token", "wrong"},
      {"useEncryption", "false", "user", "anybody", "password", "wrong"},
    };
    for (String[] stranger : strangers) {
      SQLException refused = assertThrows(SQLException.class, () -> open(Server.PORT, stranger));
      assertTrue(everythingThatIsSaid(refused).contains("UNAUTHENTICATED"), everythingThatIsSaid(refused));
    }
    // Without anything there is no handshake: the first query is refused.
    try (Connection connection = open(Server.PORT, "useEncryption", "false")) {
      assertThrows(SQLException.class, () -> assertAnswers(connection));
    }
  }

  @Test
  void aCatalogInTheUrlIsTheOneThatThereIs() throws SQLException {
    Connection connection = Server.connect("catalog", "public");
    connection.setCatalog("public");
    assertAnswers(connection);
    try {
      connection.close();
    } catch (SQLException error) {
      // The driver closes the session of a catalog twice, the second time on a connection that it has closed itself.
      assertTrue(error.getMessage().contains("Channel shutdown invoked"), error.getMessage());
    }
    assertThrows(SQLException.class, () -> Server.connect("catalog", "attic"));
  }

  @Test
  void tlsIsTheDriversDefaultAndChecksTheCertificate() throws SQLException {
    try (Connection connection = tls("tlsRootCerts", Server.TLS_AUTHORITY, "token", Server.TLS_TOKEN)) {
      assertAnswers(connection);
    }
    try (Connection connection = tls("tlsRootCerts", Server.TLS_AUTHORITY, "user", "u", "password", Server.TLS_TOKEN)) {
      assertAnswers(connection);
    }
    try (Connection connection = tls("disableCertificateVerification", "true", "token", Server.TLS_TOKEN)) {
      assertAnswers(connection);
    }
    assertThrows(SQLException.class, () -> tls("token", Server.TLS_TOKEN), "an authority that nobody knows");
    assertThrows(SQLException.class, () -> tls("useEncryption", "false", "token", Server.TLS_TOKEN), "without TLS");
  }

  private static Connection tls(String... properties) throws SQLException {
    Properties all = Server.properties(properties);
    all.put("database", Server.DATABASE);
    all.put("connectTimeoutMs", "5000");
    return DriverManager.getConnection(Server.url(Server.TLS_PORT), all);
  }

  static String everythingThatIsSaid(Throwable error) {
    StringBuilder said = new StringBuilder();
    for (Throwable cause = error; cause != null; cause = cause.getCause()) {
      said.append(cause).append('\n');
    }
    return said.toString();
  }
}
