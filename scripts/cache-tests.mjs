// Counts the results of the HTTP cache tests; the working directory is theirs. Fails below the required tests that must pass.
import fs from 'fs'
import path from 'path'
import { pathToFileURL } from 'url'

const REQUIRED_MIN = 150

const { default: suites } = await import(pathToFileURL(path.resolve('tests/index.mjs')))
const results = JSON.parse(fs.readFileSync(process.argv[2]))
const tests = suites.flatMap(suite => suite.tests)
const passed = kind => tests.filter(test => (test.kind ?? 'required') === kind && results[test.id] === true).length
const all = kind => tests.filter(test => (test.kind ?? 'required') === kind).length
for (const test of tests) {
  if ((test.kind ?? 'required') === 'required' && results[test.id] !== true) {
    console.log(`failed   ${test.id}: ${results[test.id]?.[1] ?? 'not played: for browsers'}`)
  }
}
for (const kind of ['required', 'optimal']) {
  console.log(`${kind.padEnd(8)} ${passed(kind)} of ${all(kind)}`)
}
process.exitCode = passed('required') >= REQUIRED_MIN ? 0 : 1
