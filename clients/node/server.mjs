// Where the server is: the environment says it, as for the checks in other languages. What is missing is a failure.
import assert from 'node:assert/strict'
import {createReadStream} from 'node:fs'
import {createInterface} from 'node:readline'

const required = (name) => {
  const value = process.env[name]
  assert(value, `environment variable ${name} is not set`)
  return value
}

export const host = required('FLIGHTLINE_HOST')
export const port = Number(required('FLIGHTLINE_PORT'))
export const url = `http://${host}:${port}`
export const database = required('FLIGHTLINE_DATABASE')
export const token = required('FLIGHTLINE_TOKEN')
// The same program with TLS.
export const tlsPort = Number(required('FLIGHTLINE_TLS_PORT'))
export const tlsUrl = `https://${host}:${tlsPort}`
export const tlsToken = required('FLIGHTLINE_TLS_TOKEN')
// Databases for checks that write; they stay behind.
export const scratch = `node_${process.pid}_${Date.now()}`

// Rows without any client, so that what a client wrote is not read by the same.
export const rowsOverHttp = async (sql, db = scratch) => {
  const response = await fetch(`${url}/api/v3/query_sql`, {
    method: 'POST',
    headers: {authorization: `Bearer ${token}`},
    body: JSON.stringify({db, q: sql, format: 'json'}),
  })
  const text = await response.text()
  assert.equal(response.status, 200, text)
  return JSON.parse(text)
}

// The questions of all checks with DuckDB's answers, one after the other: see python/expected.py.
export async function* answers() {
  let count = 0
  for await (const line of createInterface({input: createReadStream(required('FLIGHTLINE_ANSWERS'))})) {
    count++
    yield JSON.parse(line)
  }
  assert(count > 10, `${count} questions`)
}

// Fails with the first value of a row that differs. Times are compared in milliseconds: JavaScript's Arrow has no more.
export const checkRow = (question, row, at) => {
  question.columns.forEach(([name, type], column) => {
    const expected = question.rows[at][column]
    const where = `${question.name}: row ${at}, column ${name}`
    const got = row[name] ?? null
    if (expected === null || got === null) return assert.equal(got, expected, where)
    if (type === 'time') return assert.equal(Number(got), Number(BigInt(expected) / 1_000_000n), where)
    if (type === 'whole') return assert.equal(Number(got), expected, where)
    if (type === 'real' && question.tolerance > 0) {
      const scale = Math.max(Math.abs(got), Math.abs(expected))
      return assert(Math.abs(got - expected) <= question.tolerance * scale + 1e-12, `${where}: ${got}, ${expected}`)
    }
    assert.equal(got, expected, where)
  })
}
