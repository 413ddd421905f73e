-- For wrk: asks for the users behind an id, each once.
local id

function init(args)
  id = tonumber(args[1])
end

function request()
  id = id + 1
  return wrk.format("GET", "/users/" .. id)
end
