package flightline;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.Gson;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/** DuckDB's answers to the questions of all checks, and the comparison with what a client got. */
final class Answers {
  /** Types of a column: what JDBC and InfluxDB's library make of it is checked beside its values. */
  static final Map<String, Class<?>> CLASSES =
      Map.of("text", String.class, "whole", Long.class, "real", Double.class, "truth", Boolean.class);

  /** A question and its answer. Times are nanoseconds since 1970, whole numbers longs, and what is missing is null. */
  static final class Answer {
    String name;
    String sql;
    List<List<String>> columns;
    double tolerance;
    Object[][] rows;

    @Override
    public String toString() {
      return name;
    }

    List<String> names() {
      return columns.stream().map(column -> column.get(0)).toList();
    }

    boolean isTime(int column) {
      return columns.get(column).get(1).equals("time");
    }

    /** Fails with the first row that differs. */
    void check(List<Object[]> got) {
      assertEquals(rows.length, got.size(), "rows");
      for (int row = 0; row < rows.length; row++) {
        for (int column = 0; column < columns.size(); column++) {
          Object expected = expected(rows[row][column], columns.get(column).get(1));
          Object value = got.get(row)[column];
          if (!same(expected, value)) {
            throw new AssertionError(
                "row " + row + ", column " + names().get(column) + ": " + value + " instead of " + expected);
          }
        }
      }
    }

    private boolean same(Object expected, Object got) {
      if (expected instanceof Double wanted && got instanceof Double value && tolerance > 0) {
        return Math.abs(wanted - value) <= tolerance * Math.max(Math.abs(wanted), Math.abs(value)) + 1e-12;
      }
      return expected == null ? got == null : expected.equals(got);
    }

    private static Object expected(Object plain, String type) {
      if (plain == null) {
        return null;
      }
      return switch (type) {
        case "time" -> Long.parseLong((String) plain);
        case "whole" -> ((Number) plain).longValue();
        case "real" -> ((Number) plain).doubleValue();
        default -> plain;
      };
    }
  }

  private Answers() {}

  /** All questions, each as one argument of a parameterized test. */
  static Stream<Answer> all() throws Exception {
    Gson gson = new Gson();
    List<Answer> answers = new ArrayList<>();
    try (Stream<String> lines = Files.lines(Path.of(Server.ANSWERS))) {
      lines.forEach(line -> answers.add(gson.fromJson(line, Answer.class)));
    }
    assertTrue(answers.size() > 10, "questions in " + Server.ANSWERS);
    return answers.stream();
  }

  /** The one with this name. */
  static Answer named(String name) throws Exception {
    return all().filter(answer -> answer.name.equals(name)).findFirst().orElseThrow();
  }

  static String show(Object[] row) {
    return Arrays.toString(row);
  }
}
