// A page is made of parts. The feed sends changed parts by their ids, and a list as the ids of its parts in order.
"use strict"
const main = document.getElementById("main")
const link = document.getElementById("link")
const skew = main.dataset.now ? Date.now() * 1000 - main.dataset.now : 0
const micros = () => Date.now() * 1000 - skew

// -- running times --------------------------------------------------------------------------------------------

const words = total => {
  total = Math.max(0, Math.round(total))
  if (total < 60) return `${total}s`
  const parts = []
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]]) {
    const count = Math.floor(total / size)
    total -= count * size
    if (count) parts.push(`${count}${unit}`)
  }
  return parts.slice(0, 2).join(" ")
}
const tick = () => {
  const now = micros()
  for (const time of main.querySelectorAll("time[data-since]")) {
    const text = words((now - time.dataset.since) / 1e6)
    if (time.textContent !== text) time.textContent = text
  }
  for (const time of main.querySelectorAll("time[data-until]")) {
    const left = (time.dataset.until - now) / 1e6
    const text = left > 0.5 ? `in ${words(left)}` : "now"
    if (time.textContent !== text) time.textContent = text
  }
  const axis = document.getElementById("p-axis"), table = document.getElementById("t-steps")
  if (axis && table) {
    const span = axis.dataset.start ? (now - axis.dataset.start) / 1e6 : +axis.dataset.span
    const shown = Math.max(span, +axis.dataset.span)
    table.style.setProperty("--t", shown.toFixed(3))
    if (axis.dataset.start) document.getElementById("axis-end").textContent = words(shown)
  }
}
setInterval(() => document.hidden || tick(), 1000)

// -- parts ----------------------------------------------------------------------------------------------------

const trusted = window.trustedTypes?.createPolicy("cerebelum", { createHTML: html => html }) ?? { createHTML: html => html }
const made = html => {  // the only place that makes HTML, from parts that the server's templates have escaped
  const template = document.createElement("template")
  template.innerHTML = trusted.createHTML(html.trim())
  return template.content.firstElementChild
}
const isUsed = form => form.contains(document.activeElement) ||
  [...form.elements].some(field => "defaultValue" in field && field.type !== "hidden" && !field.dataset.remember && field.value !== field.defaultValue)
const keep = (old, fresh) => {  // keep opened details open, and forms that the user has begun to fill in
  const focus = old.contains(document.activeElement) && document.activeElement  // a moved form loses the focus
  for (const details of old.querySelectorAll("details[open][data-k]"))
    fresh.querySelector(`details[data-k="${CSS.escape(details.dataset.k)}"]`)?.setAttribute("open", "")
  const forms = [...fresh.querySelectorAll("form")]
  for (const form of old.querySelectorAll("form")) {
    const same = forms.find(other => other.getAttribute("action") === form.getAttribute("action"))
    if (same && isUsed(form)) same.replaceWith(form)
  }
  return () => {
    if (!focus) return
    if (fresh.contains(focus)) return focus.focus()
    const at = [...old.querySelectorAll("a,button,input,select,textarea,summary")].indexOf(focus)
    ;[...fresh.querySelectorAll("a,button,input,select,textarea,summary")][at]?.focus()
  }
}
const put = (id, html) => {
  const old = document.getElementById(id), fresh = made(html)
  if (!old || !fresh) return fresh
  const focus = keep(old, fresh)
  old.replaceWith(fresh)
  focus()
  return fresh
}
const show = message => {
  const fresh = {}
  for (const [id, html] of Object.entries(message.parts || {})) {
    const element = put(id, html)
    if (element && !element.isConnected) fresh[id] = element
  }
  for (const [id, order] of Object.entries(message.lists || {})) {
    const list = document.getElementById(id)
    if (!list) continue
    const there = new Map([...list.children].map(child => [child.id, child]))
    let place = list.firstElementChild
    for (const name of order) {
      const element = there.get(name) || fresh[name]
      if (!element) continue
      there.delete(name)
      if (element === place) place = place.nextElementSibling
      else list.insertBefore(element, place)
    }
    for (const gone of there.values()) gone.remove()
  }
  const title = main.dataset.title
  if (title) {
    const state = document.querySelector("#p-head .badge")
    if (state) document.title = `${state.lastChild.textContent}: ${title}`
  }
  dress()
  tick()
}

// -- the feed -------------------------------------------------------------------------------------------------

let feed = null, digest = main.dataset.digest || "", poll = 0, quiet = 0
const say = (state, text) => {
  link.className = `link ${state}`
  if (link.textContent !== text) link.textContent = text
}
const address = more => {
  const [path, query] = main.dataset.feed.split("?")
  return `${path}?${query ? query + "&" : ""}${more}seen=${digest}`
}
const take = message => {
  digest = message.digest
  show(message)
}
const stop = () => {
  feed?.close()
  feed = null
  clearInterval(poll)
  clearTimeout(quiet)
  poll = 0
}
const ask = async () => {  // if no stream arrives (a proxy buffers it), and while the server is away
  try {
    const answer = await fetch(address("once=1&"), { credentials: "same-origin" })
    if (answer.status === 200) take(await answer.json())
    if (answer.ok) say("on", "live")
    else say("off", answer.status === 401 ? "signed out: open the printed address again" : "not connected")
    return answer.ok
  } catch {
    say("off", "not connected: the dashboard has gone away")
    return false
  }
}
const follow = () => {
  if (document.hidden || feed || !main.dataset.feed) return
  feed = new EventSource(address(""))
  quiet = setTimeout(() => { poll ||= setInterval(ask, 2000) }, 5000)
  feed.onopen = () => {
    clearTimeout(quiet)
    clearInterval(poll)
    poll = 0
    say("on", "live")
  }
  feed.onmessage = message => {
    try { take(JSON.parse(message.data)) } catch (error) { console.error(error) }
  }
  feed.addEventListener("over", () => {
    stop()
    say("", "")
  })
  feed.onerror = () => {
    const over = feed?.readyState === EventSource.CLOSED
    say("off", "not connected: trying again")
    if (over) {  // the server refused it: ask for the reason, and start again
      stop()
      setTimeout(async () => { if (await ask()) follow(); else setTimeout(follow, 3000) }, 1000)
    }
  }
}
document.addEventListener("visibilitychange", () => document.hidden ? stop() : follow())
addEventListener("pagehide", stop)
addEventListener("pageshow", event => event.persisted && follow())

// -- small comforts -------------------------------------------------------------------------------------------

const remembered = name => { try { return localStorage.getItem(`cerebelum-${name}`) || "" } catch { return "" } }
const dress = () => {
  for (const button of document.querySelectorAll("button.copy[hidden]")) button.hidden = !navigator.clipboard
  for (const field of document.querySelectorAll("[data-remember]"))
    if (!field.value && document.activeElement !== field) field.value = remembered(field.dataset.remember)
}
document.addEventListener("click", async event => {
  const button = event.target.closest("button.copy")
  if (!button) return
  await navigator.clipboard.writeText(button.parentElement.querySelector("pre").textContent)
  button.textContent = "Copied"
  setTimeout(() => { button.textContent = "Copy" }, 1500)
})
document.addEventListener("change", event => {
  const field = event.target
  if (field.dataset.remember) try { localStorage.setItem(`cerebelum-${field.dataset.remember}`, field.value) } catch {}
  if (field.tagName === "SELECT" && field.closest(".filters")) field.form.requestSubmit()
})
document.addEventListener("submit", event => {
  for (const field of [...event.target.elements])  // leave empty fields out of the address
    if (event.target.method === "get" && field.name && !field.value) field.disabled = true
})
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return
  const links = [...document.querySelectorAll(".list tbody a")]
  const at = links.indexOf(document.activeElement)
  if (event.key === "/") {
    const search = document.querySelector("input[type=search]")
    if (search) { event.preventDefault(); search.focus(); search.select() }
  } else if (event.key === "j" || event.key === "k") {
    links[Math.min(links.length - 1, Math.max(0, at + (event.key === "j" ? 1 : -1)))]?.focus()
  }
})
const travel = document.querySelector("[data-travel]")
if (travel) {
  const range = travel.elements.version
  let busy = false, wanted = 0
  const go = async () => {
    wanted = +range.value
    document.getElementById("travel-at").textContent = wanted
    if (busy) return
    busy = true
    for (let at = 0; at !== wanted;) {
      at = wanted
      try {
        const answer = await fetch(`${travel.dataset.travel}${at}?parts=1`, { credentials: "same-origin" })
        if (!answer.ok) break
        take(await answer.json())
        history.replaceState(null, "", `${travel.dataset.travel}${at}`)
        for (const step of travel.querySelectorAll("[data-step]"))
          step.href = `${travel.dataset.travel}${Math.min(+range.max, Math.max(1, at + +step.dataset.step))}`
      } catch { break }
    }
    busy = false
  }
  range.addEventListener("input", go)
  travel.addEventListener("click", event => {
    const step = event.target.closest("[data-step]")
    if (!step) return
    event.preventDefault()
    range.value = +range.value + +step.dataset.step
    go()
  })
}
dress()
tick()
follow()
