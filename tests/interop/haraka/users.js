'use strict'

// A directory of users for Haraka, and what the tests want to know of its sessions. Replies are those of haraka-dsn.

const { readFileSync } = require('node:fs')

const DSN = require('haraka-dsn')

exports.register = function () {
    const world = JSON.parse(readFileSync(`${process.env.HARAKA}/world.json`))
    this.users = new Set(world.users)
    this.catch_all = new Set(world.catch_all)
    this.refused = new Map(Object.entries(world.refused))
}

exports.hook_connect = function (next, connection) {
    connection.lognotice(this, 'session begins')
    next()
}

exports.hook_rcpt = function (next, connection, [rcpt]) {
    const address = rcpt.address.toLowerCase()
    const [user, host] = [address.slice(0, address.lastIndexOf('@')), address.slice(address.lastIndexOf('@') + 1)]
    switch (this.refused.get(address)?.slice(0, 9)) {
        case '452 4.2.2': return next(DENYSOFT, DSN.mbox_full())
        case '552 5.2.2': return next(DENY, DSN.mbox_full(552))
        case '550 5.2.1': return next(DENY, DSN.mbox_disabled())
    }
    if (this.catch_all.has(host) || this.users.has(`${user.split('+')[0]}@${host}`)) return next(OK)
    next(DENY, DSN.no_such_user())
}

exports.hook_quit = function (next, connection) {
    connection.notes.quit = true
    next()
}

exports.hook_disconnect = function (next, connection) {
    const how = connection.notes.quit && !connection.early_talker ? 'by QUIT' : 'otherwise'
    connection.lognotice(this, `session ends ${how}, early talker ${connection.early_talker}`)
    next()
}
