-- For wrk: asks for users 1 to 1000 in turn.
local requests, at = {}, 0

function init()
  for id = 1, 1000 do requests[id] = wrk.format("GET", "/users/" .. id) end
end

function request()
  at = at % 1000 + 1
  return requests[at]
end
