// Keeps a page that shows work in progress up to date without loading it anew: place, focus, selection and what is
// open stay as they are. Without it the page is loaded anew every few seconds.
(() => {
  const main = document.querySelector('main')
  const keyOf = node => node.nodeType === 1 && (node.id || node.dataset.key || node.getAttribute('aria-labelledby') || node.className)
  const alike = (a, b) => a.nodeName === b.nodeName && keyOf(a) === keyOf(b)

  const mend = (old, fresh) => {
    if (old.isEqualNode(fresh)) return
    if (old.nodeType !== 1) {
      old.data = fresh.data
      return
    }
    for (const {name} of [...old.attributes]) if (name !== 'open' && !fresh.hasAttribute(name)) old.removeAttribute(name)
    for (const {name, value} of fresh.attributes) {
      if (name !== 'open' && old.getAttribute(name) !== value) old.setAttribute(name, value)
    }
    let at = old.firstChild
    for (const node of [...fresh.childNodes]) {
      let match = at
      while (match && !alike(match, node)) match = node.nodeType === 1 ? match.nextSibling : null
      if (!match) {
        old.insertBefore(node, at)
        continue
      }
      while (at !== match) {
        const gone = at
        at = at.nextSibling
        gone.remove()
      }
      at = at.nextSibling
      mend(match, node)
    }
    while (at) {
      const gone = at
      at = at.nextSibling
      gone.remove()
    }
  }

  const look = async () => {
    if (document.hidden) return document.addEventListener('visibilitychange', look, {once: true})
    try {
      const answer = await fetch(location.href, {cache: 'no-store', signal: AbortSignal.timeout(20000)})
      if (answer.ok && !answer.redirected) {
        const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html')
        document.title = fresh.title
        mend(main, fresh.querySelector('main'))
      } else if (answer.status < 500 && answer.status !== 429) {
        return location.reload()
      }
    } catch {
      // The service can't be reached now: it is asked again.
    }
    plan()
  }
  const plan = () => {
    if (main.dataset.refresh) setTimeout(look, main.dataset.refresh * 1000)
  }
  plan()
})()
