'use strict'

// nodemailer's smtp-server, as it comes, with users, a catch-all domain and a full mailbox.

const { readFileSync } = require('node:fs')

const { SMTPServer } = require('smtp-server')

const [port, dir] = process.argv.slice(2)
const world = JSON.parse(readFileSync(`${dir}/world.json`))
// A key and a certificate: those that come with it are too short for TLS 1.3.
const chain = readFileSync(`${dir}/chain.pem`)
const users = new Set(world.users)
const catchAll = new Set(world.catch_all)
const refused = new Map(Object.entries(world.refused))
const quit = new Set()

function refusal(responseCode, message) {
    return Object.assign(new Error(message), { responseCode })
}

// It tells of each command only to a logger.
const log = (level, { tnx, cid, command }) => {
    if (tnx === 'command' && command === 'QUIT') quit.add(cid)
}
const logger = Object.fromEntries(
    ['trace', 'debug', 'info', 'warn', 'error', 'fatal'].map(level => [level, entry => log(level, entry ?? {})])
)

const server = new SMTPServer({
    name: 'mx1.interop.test',
    disabledCommands: ['AUTH'],
    logger,
    key: chain,
    cert: chain,
    onConnect(session, done) {
        console.log('session begins')
        done()
    },
    onClose(session) {
        console.log(`session ends ${quit.delete(session.id) ? 'by QUIT' : 'otherwise'}`)
    },
    onRcptTo({ address }, session, done) {
        address = address.toLowerCase()
        const at = address.lastIndexOf('@')
        const [local, domain] = [address.slice(0, at), address.slice(at + 1)]
        if (refused.has(address)) {
            const [, code, text] = refused.get(address).match(/^(\d+) (.*)$/)
            return done(refusal(Number(code), text))
        }
        if (catchAll.has(domain) || users.has(`${local.split('+')[0]}@${domain}`)) return done()
        // As the manual has it.
        done(refusal(550, 'No such user'))
    },
})
server.on('error', error => console.error(error.message))
server.listen(Number(port), '127.0.0.1')
