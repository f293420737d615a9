// Reads a JSON list of simulations of iam-simulate from stdin, and writes what IAM would answer to each.
import { readFileSync } from 'node:fs'
import { runSimulation } from '@cloud-copilot/iam-simulate'

const answers = []
for (const simulation of JSON.parse(readFileSync(0, 'utf8'))) {
  const response = await runSimulation(simulation, {})
  if (response.resultType === 'error') throw new Error(JSON.stringify(response.errors))
  answers.push(response.overallResult)
}
process.stdout.write(JSON.stringify(answers))
