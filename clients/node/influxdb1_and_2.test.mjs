// The clients of InfluxDB 1 (influx) and 2 (@influxdata/influxdb-client), for what this server has of those.
import assert from 'node:assert/strict'
import {test} from 'node:test'
import * as influx1 from 'influx'
import {HttpError, InfluxDB, Point} from '@influxdata/influxdb-client'
import * as server from './server.mjs'

const {FieldType, InfluxDB: InfluxDB1} = influx1.default ?? influx1

const database1 = `${server.scratch}_v1`
const v1 = new InfluxDB1({
  host: server.host,
  port: server.port,
  database: database1,
  username: 'anybody',
  password: server.token,
  schema: [
    {measurement: 'loads', fields: {load: FieldType.FLOAT, n: FieldType.INTEGER, ok: FieldType.BOOLEAN, note: FieldType.STRING}, tags: ['host']},
  ],
})

test('v1: a database is made, listed, and points are written and read', async () => {
  await v1.createDatabase(database1)
  await v1.createDatabase(database1) // as often as one likes
  assert((await v1.getDatabaseNames()).includes(database1))
  const at = new Date('2024-01-01T00:00:00.123Z')
  const row = (host, load, n) => ({measurement: 'loads', tags: {host}, fields: {load, n, ok: true, note: 'it\'s "x"'}, timestamp: new Date(at.getTime() + n)})
  await v1.writePoints([row('a', 0.5, 1), row('b c', 1.5, 2)])
  await v1.writeMeasurement('loads', [{tags: {host: 'a'}, fields: {load: 2.5, n: 3, ok: false, note: ''}, timestamp: new Date(at.getTime() + 3)}], {precision: 'ms'})

  const rows = await v1.query('SELECT * FROM loads')
  assert.deepEqual(rows.map(({host, load, n, note, ok}) => ({host, load, n, note, ok})), [
    {host: 'a', load: 0.5, n: 1, note: 'it\'s "x"', ok: true},
    {host: 'b c', load: 1.5, n: 2, note: 'it\'s "x"', ok: true},
    {host: 'a', load: 2.5, n: 3, note: '', ok: false},
  ])
  assert.equal(rows[0].time.getNanoTime(), String(BigInt(at.getTime() + 1) * 1_000_000n))

  const grouped = await v1.query('SELECT sum(n), mean(load) FROM loads GROUP BY host')
  assert.deepEqual(grouped.groups().map(({tags, rows: [{sum, mean}]}) => [tags.host, sum, mean]), [['a', 4, 1.5], ['b c', 2, 1.5]])
  const placed = await v1.query('SELECT count(n) FROM loads WHERE host = $host', {placeholders: {host: 'a'}})
  assert.equal(placed[0].count, 2)
  const [first, second] = await v1.query(['SELECT max(load) FROM loads', 'SELECT min(load) FROM loads'])
  assert.deepEqual([first[0].max, second[0].min], [2.5, 0.5])
})

test('v1: what there is', async () => {
  assert.deepEqual(await v1.getMeasurements(), ['loads'])
  assert.deepEqual((await v1.getSeries()).sort(), ['loads,host=a', 'loads,host=b\\ c'])
  const policies = await v1.showRetentionPolicies()
  assert.deepEqual(policies.map(({name}) => name), ['autogen'])
  const [pong] = await v1.ping(10_000)
  assert.equal(pong.online, true)
  assert.equal(pong.version, '3.10.0')
})

test('v1: what is wrong is said', async () => {
  await assert.rejects(v1.query('SELEC 1'), /SELEC/)
  const text = [{measurement: 'other', fields: {load: 'text'}}]
  await v1.writePoints([{measurement: 'other', fields: {load: 1}}])
  await assert.rejects(v1.writePoints(text), /load/)
  const stranger = new InfluxDB1({host: server.host, port: server.port, database: server.database, username: 'x', password: 'wrong'})
  await assert.rejects(stranger.query('SELECT * FROM weather'), /authenticated|401/)
})

test('v1: a measurement and the database go again', async () => {
  await v1.dropMeasurement('loads')
  await v1.dropMeasurement('other')
  assert.deepEqual(await v1.getMeasurements(), [])
  await v1.dropDatabase(database1)
  assert(!(await v1.getDatabaseNames()).includes(database1))
})

test('v2: points are written in batches, in every precision, compressed and not', async () => {
  const v2 = new InfluxDB({url: server.url, token: server.token})
  for (const [precision, unit] of [['s', 1e9], ['ms', 1e6], ['us', 1e3], ['ns', 1]]) {
    const api = v2.getWriteApi('nobody', server.scratch, precision, {gzipThreshold: precision === 's' ? 1 : 1e6, maxRetries: 0, batchSize: 50})
    api.useDefaultTags({site: 'a b'})
    for (let n = 0; n < 120; n++) {
      api.writePoint(new Point(`v2_${precision}`).tag('n', String(n)).floatField('load', n / 2).intField('whole', n).uintField('free', n).booleanField('ok', true).stringField('note', 'x"y').timestamp(1000001))
    }
    await api.close()
    const rows = await server.rowsOverHttp(`SELECT count(*) AS n, sum(whole) AS total, max(CAST(time AS BIGINT)) AS t, min(site) AS site, min(note) AS note FROM v2_${precision}`)
    assert.deepEqual(rows, [{n: 120, note: 'x"y', site: 'a b', t: 1000001 * unit, total: 7140}])
  }
})

test('v2: what is refused is told as version 2 tells it', async () => {
  const write = async (token, line) => {
    const api = new InfluxDB({url: server.url, token}).getWriteApi('nobody', server.scratch, 'ns', {maxRetries: 0})
    api.writeRecord(line)
    await api.close()
  }
  await assert.rejects(write(server.token, 'v2_refused value=oops 1'), (error) => error instanceof HttpError && error.statusCode === 400 && error.json?.code === 'invalid')
  await assert.rejects(write('wrong', 'v2_refused value=1 1'), (error) => error instanceof HttpError && error.statusCode === 401)
})
