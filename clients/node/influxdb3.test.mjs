// @influxdata/influxdb3-client: writes over HTTP, reads over gRPC.
import assert from 'node:assert/strict'
import {after, test} from 'node:test'
import {HttpError, InfluxDBClient, Point, collectAll} from '@influxdata/influxdb3-client'
import * as server from './server.mjs'

// Long enough for a slow machine; the library gives up after a minute.
const queryTimeout = 300_000
const reader = new InfluxDBClient({host: server.url, token: server.token, database: server.database, queryTimeout})
const writer = new InfluxDBClient({host: server.url, token: server.token, database: server.scratch})
after(async () => {
  await reader.close()
  await writer.close()
})

test('every answer is DuckDB\'s', async (t) => {
  for await (const question of server.answers()) {
    await t.test(question.name, async () => {
      let at = 0
      for await (const row of reader.query(question.sql)) {
        assert(at < question.rows.length, 'more rows than expected')
        server.checkRow(question, row, at++)
      }
      assert.equal(at, question.rows.length)
    })
  }
})

const odd = 'quote " backslash \\ comma , equals = space'
const point = (table) =>
  Point.measurement(table)
    .setTag('place', 'a b,c=d')
    .setFloatField('temp', 1.5)
    .setIntegerField('wind', 3)
    .setUintegerField('rain', 4)
    .setBooleanField('dry', true)
    .setStringField('sky', odd)

test('points are written in every way', async () => {
  const ways = {by_default: {}, unsynced: {noSync: true}, gzipped: {gzipThreshold: 0}, tagged: {defaultTags: {site: 'x'}}}
  for (const [table, options] of Object.entries(ways)) {
    await writer.write(point(table).setTimestamp('1700000000000000001'), undefined, undefined, options)
  }
  await writer.write([point('several').setTimestamp('1'), point('several').setTimestamp('2')])
  for (const table of ['by_default', 'gzipped', 'tagged']) {
    const rows = await server.rowsOverHttp(`SELECT dry, place, rain, sky, temp, wind FROM ${table}`)
    assert.deepEqual(rows, [{dry: true, place: 'a b,c=d', rain: 4, sky: odd, temp: 1.5, wind: 3}])
  }
  assert.deepEqual(await server.rowsOverHttp('SELECT site FROM tagged'), [{site: 'x'}])
  assert.deepEqual(await server.rowsOverHttp('SELECT count(*) AS n FROM several'), [{n: 2}])
})

test('every precision', async () => {
  for (const [precision, unit] of [['s', 1e9], ['ms', 1e6], ['us', 1e3], ['ns', 1]]) {
    await writer.write(`precision_${precision} value=1 1000001`, undefined, undefined, {precision})
    const rows = await server.rowsOverHttp(`SELECT CAST(time AS BIGINT) AS t FROM precision_${precision}`)
    assert.deepEqual(rows, [{t: 1000001 * unit}])
  }
})

test('points are read back as points', async () => {
  await writer.write('points,place=pier temp=1.5,n=2i,ok=true,note="x" 1700000000000000000')
  const [read, ...more] = await collectAll(writer.queryPoints('SELECT * FROM points'))
  assert.equal(more.length, 0)
  assert.equal(read.getTag('place'), 'pier')
  assert.equal(read.getFloatField('temp'), 1.5)
  assert.equal(read.getIntegerField('n'), 2)
  assert.equal(read.getBooleanField('ok'), true)
  assert.equal(read.getStringField('note'), 'x')
  assert.equal(Number(read.getTimestamp()), 1_700_000_000_000)
})

test('parameters', async () => {
  const sql = 'SELECT count(*) AS n FROM weather WHERE origin = $origin AND temp > $temp'
  assert.deepEqual(await collectAll(reader.query(sql, undefined, {params: {origin: 'JFK', temp: -1000}})), [{n: 8706n}])
})

test('what is wrong is said', async () => {
  await assert.rejects(collectAll(reader.query('SELECT * FROM hurricanes')), /hurricanes/)
  await assert.rejects(collectAll(reader.query('SELECT 1', 'atlantis')), /atlantis/)
  const lines = 'TABLE value=1 1\n\nTABLE value=oops 2\nTABLE value=3 3'
  await assert.rejects(writer.write(lines), (error) => error instanceof HttpError && error.statusCode === 400 && /oops|3/.test(error.message))
  const stranger = new InfluxDBClient({host: server.url, token: 'wrong', database: server.database})
  await assert.rejects(collectAll(stranger.query('SELECT 1')), /authenticated/)
  await assert.rejects(stranger.write('x value=1'), (error) => error.statusCode === 401)
  await stranger.close()
})

test('the version of the server', async () => {
  assert(await reader.getServerVersion())
})

// The authority of the certificate is in NODE_EXTRA_CA_CERTS for HTTP and in GRPC_DEFAULT_SSL_ROOTS_FILE_PATH for gRPC.
test('over TLS', async () => {
  const client = new InfluxDBClient({host: server.tlsUrl, token: server.tlsToken, database: server.database})
  await client.write('tls_from_node value=1 1')
  assert.deepEqual(await collectAll(client.query('SELECT value FROM tls_from_node')), [{value: 1}])
  await client.close()
})
