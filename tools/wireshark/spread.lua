-- Wireshark dissector for Spread 4: what clients and daemons say on a stream, and what
-- daemons (and monitors) send each other in datagrams.
--
-- Use: copy it into Wireshark's personal Lua plugin folder (Help, About, Folders), or
--     tshark -X lua_script:spread.lua -r capture.pcap
-- Client streams are looked for on TCP port 4803 (a preference); another port is chosen
-- with "Decode As" or -d tcp.port==14803,spread.  Datagrams are recognised by their shape
-- on any port.
--
-- The bytes are described in docs/protocol/client-session.md and
-- docs/protocol/daemon-datagrams.md of txspread.  Versions 4.4 only.

local HEADER = 48
local NAME = 32

------------------------------------------------------------------ messages

local message = Proto("spread.message", "Spread Message")

local MESSAGE_BITS = {
  { 0x00000001, "unreliable", "UNRELIABLE" }, { 0x00000002, "reliable", "RELIABLE" },
  { 0x00000004, "fifo", "FIFO" }, { 0x00000008, "causal", "CAUSAL" },
  { 0x00000010, "agreed", "AGREED" }, { 0x00000020, "safe", "SAFE" },
  { 0x00000040, "self_discard", "SELF_DISCARD" },
  { 0x00000100, "caused_by_join", "CAUSED_BY_JOIN" },
  { 0x00000200, "caused_by_leave", "CAUSED_BY_LEAVE" },
  { 0x00000400, "caused_by_disconnect", "CAUSED_BY_DISCONNECT" },
  { 0x00000800, "caused_by_network", "CAUSED_BY_NETWORK" },
  { 0x00001000, "reg_memb", "REG_MEMB" }, { 0x00002000, "transition", "TRANSITION" },
  { 0x00010000, "join", "JOIN" }, { 0x00020000, "leave", "LEAVE" },
  { 0x00040000, "kill", "KILL" }, { 0x00080000, "groups", "GROUPS" },
  { 0x00400000, "reject", "REJECT" },
}

local mf = {
  type = ProtoField.uint32("spread.type", "Type", base.HEX),
  endian = ProtoField.string("spread.endian", "Byte order"),
  sender = ProtoField.string("spread.sender", "Private group or group"),
  num_groups = ProtoField.int32("spread.num_groups", "Groups"),
  hint = ProtoField.uint32("spread.hint", "Hint", base.HEX),
  mess_type = ProtoField.int32("spread.mess_type", "Message type of the application"),
  data_len = ProtoField.int32("spread.data_len", "Length of the body"),
  group = ProtoField.string("spread.group", "Group"),
  member = ProtoField.string("spread.member", "Member"),
  old_type = ProtoField.uint32("spread.old_type", "Refused type", base.HEX),
  body = ProtoField.bytes("spread.body", "Body"),
  gid_proc = ProtoField.ipv4("spread.group_id.proc_id", "Group id: daemon"),
  gid_time = ProtoField.int32("spread.group_id.time", "Group id: time"),
  gid_index = ProtoField.int32("spread.group_id.index", "Group id: index"),
  num_vs_sets = ProtoField.uint32("spread.num_vs_sets", "Sets that came together"),
  local_offset = ProtoField.uint32("spread.local_vs_set_offset", "Offset of the own set"),
  vs_size = ProtoField.uint32("spread.vs_set.size", "Members of a set"),
  vs_member = ProtoField.string("spread.vs_set.member", "Member of a set"),
  version = ProtoField.string("spread.version", "Version"),
  flags = ProtoField.uint8("spread.connect.flags", "Flags", base.HEX),
  membership = ProtoField.bool("spread.connect.membership", "Wants membership", 8, nil, 0x0f),
  priority = ProtoField.uint8("spread.connect.priority", "Priority", base.DEC, nil, 0xf0),
  name_len = ProtoField.int8("spread.connect.name_len", "Length of the name"),
  name = ProtoField.string("spread.connect.name", "Name"),
  methods = ProtoField.string("spread.auth.methods", "Authentication methods offered"),
  method = ProtoField.string("spread.auth.method", "Authentication method chosen"),
  code = ProtoField.int8("spread.code", "Accept or reject code"),
  private = ProtoField.string("spread.private_group", "Private group given"),
}
for _, bit in ipairs(MESSAGE_BITS) do
  mf[bit[2]] = ProtoField.bool("spread.type." .. bit[2], bit[3], 32, nil, bit[1])
end

local CODES = {
  [1] = "accepted", [-3] = "quota", [-4] = "no name", [-5] = "illegal name",
  [-6] = "name not unique", [-7] = "version", [-9] = "authentication",
}

local short = ProtoExpert.new("spread.short", "Shorter than it says", expert.group.MALFORMED, expert.severity.ERROR)

-- The bits of a word under "and", as Lua 5.2 and bit libraries of all Wiresharks know it.
local band = (bit32 or bit or require("bit")).band
local rshift = (bit32 or bit or require("bit")).rshift

local function marked(tvb, offset)
  -- "<", ">" or nil for half a marker
  local first, last = band(tvb(offset, 1):uint(), 0x80), band(tvb(offset + 3, 1):uint(), 0x80)
  if first ~= 0 and last ~= 0 then return "<" end
  if first == 0 and last == 0 then return ">" end
  return nil
end

local function u32(range, order) if order == "<" then return range:le_uint() end return range:uint() end
local function i32(range, order) if order == "<" then return range:le_int() end return range:int() end
local function add(tree, field, range, order)
  if order == "<" then return tree:add_le(field, range) end
  return tree:add(field, range)
end
local function add_id(tree, field, range, order)
  -- An id is an address in the writer's byte order.
  if order == "<" then return tree:add_le(field, range) end
  return tree:add(field, range)
end

local function words(type)
  local found = {}
  for _, bit in ipairs(MESSAGE_BITS) do
    if band(type, bit[1]) ~= 0 then found[#found + 1] = bit[3] end
  end
  return table.concat(found, "|")
end

-- Length of a whole message at an offset: bytes, or nil if that cannot be told or is absurd.
local function message_length(tvb, offset)
  local order = marked(tvb, offset)
  if not order then return nil end
  local groups, length = i32(tvb(offset + 36, 4), order), i32(tvb(offset + 44, 4), order)
  if groups < 0 or groups > 4096 or length < 0 or length > 1000000 then return nil end
  local reject = band(u32(tvb(offset, 4), order), 0x00400000) ~= 0 and 4 or 0
  return HEADER + reject + NAME * groups + length
end

local function membership_body(tree, tvb, offset, length, order)
  if length < 20 then return end
  add_id(tree, mf.gid_proc, tvb(offset, 4), order)
  add(tree, mf.gid_time, tvb(offset + 4, 4), order)
  add(tree, mf.gid_index, tvb(offset + 8, 4), order)
  add(tree, mf.num_vs_sets, tvb(offset + 12, 4), order)
  add(tree, mf.local_offset, tvb(offset + 16, 4), order)
  local sets, at, stop = u32(tvb(offset + 12, 4), order), offset + 20, offset + length
  for _ = 1, sets do
    if at + 4 > stop then return end
    local members = u32(tvb(at, 4), order)
    local set = add(tree, mf.vs_size, tvb(at, 4), order)
    at = at + 4
    if members > (stop - at) / NAME then return end
    for _ = 1, members do
      set:add(mf.vs_member, tvb(at, NAME), tvb(at, NAME):stringz())
      at = at + NAME
    end
  end
end

-- One message that is there as a whole; returns a word for the info column.
local function dissect_message(tvb, offset, length, tree, order)
  order = order or marked(tvb, offset)
  local part = tree:add(message, tvb(offset, length))
  local type = u32(tvb(offset, 4), order)
  local what = words(type)
  local bits = add(part, mf.type, tvb(offset, 4), order)
  bits:append_text(" (" .. what .. ")")
  for _, bit in ipairs(MESSAGE_BITS) do add(bits, mf[bit[2]], tvb(offset, 4), order) end
  part:add(mf.endian, tvb(offset, 4), order == "<" and "little" or "big"):set_generated()
  local sender = tvb(offset + 4, NAME):stringz()
  part:add(mf.sender, tvb(offset + 4, NAME), sender)
  add(part, mf.num_groups, tvb(offset + 36, 4), order)
  local hint = u32(tvb(offset + 40, 4), order)
  add(part, mf.hint, tvb(offset + 40, 4), order)
  -- The hint has a marker of its own: it is the sending client's, never turned round.
  local hint_order = marked(tvb, offset + 40)
  if hint_order then
    local word = u32(tvb(offset + 40, 4), hint_order)
    local value = band(rshift(word, 8), 0xffff)
    if value > 32767 then value = value - 65536 end
    part:add(mf.mess_type, tvb(offset + 40, 4), value):set_generated()
  end
  add(part, mf.data_len, tvb(offset + 44, 4), order)
  local at, groups = offset + HEADER, i32(tvb(offset + 36, 4), order)
  if band(type, 0x00400000) ~= 0 then
    add(part, mf.old_type, tvb(at, 4), order)
    at = at + 4
  end
  local view = band(type, 0x00003000) ~= 0
  local first = nil
  for _ = 1, groups do
    if at + NAME > offset + length then break end
    local name = tvb(at, NAME):stringz()
    first = first or name
    part:add(view and mf.member or mf.group, tvb(at, NAME), name)
    at = at + NAME
  end
  local rest = offset + length - at
  if rest > 0 then
    part:add(mf.body, tvb(at, rest))
    if band(type, 0x00001000) ~= 0 then membership_body(part, tvb, at, rest, order) end
  end
  part:append_text(string.format(": %s, %s", what, sender))
  if view then return string.format("%s %s (%d members)", what, sender, groups) end
  return string.format("%s %s -> %s%s", what, sender, first or "", groups > 1 and " ..." or "")
end

------------------------------------------------------------------ the client's stream

local stream = Proto("spread", "Spread Client Session")
stream.prefs.port = Pref.uint("TCP port", 4803, "Port on which daemons serve clients")
local fields = {}
for _, field in pairs(mf) do fields[#fields + 1] = field end
stream.fields = fields
stream.experts = { short }

local stream_number = Field.new("tcp.stream")
-- Stage of each direction of a stream, and the stage at which each part of a frame begins.
local stages, begins, patches, silent = {}, {}, {}, {}

function stream.init() stages, begins, patches, silent = {}, {}, {}, {} end

local function name_of(tvb, offset, size) return tvb(offset, size):string() end

-- Each returns the bytes that the step takes, its words, and the next stage; or nil and the
-- number of bytes that are missing at least.
local to_daemon = {}
local to_client = {}

function to_daemon.start(tvb, at, tree)
  local left = tvb:len() - at
  if left < 4 then return nil, 4 - left end
  if left >= HEADER and tvb(at, 1):uint() > 127 and marked(tvb, at) and message_length(tvb, at) then
    return to_daemon.messages(tvb, at, tree)
  end
  local major, minor = tvb(at, 1):int(), tvb(at + 1, 1):int()
  local patch = 10000 * major + 100 * minor > 31400
  local fixed = patch and 5 or 4
  if left < fixed then return nil, fixed - left end
  local size = math.max(0, tvb(at + fixed - 1, 1):int())
  if left < fixed + size then return nil, fixed + size - left end
  local version = major .. "." .. minor .. (patch and ("." .. tvb(at + 2, 1):int()) or "")
  tree:add(mf.version, tvb(at, fixed - 2), version)
  local flags = tree:add(mf.flags, tvb(at + fixed - 2, 1))
  flags:add(mf.membership, tvb(at + fixed - 2, 1))
  flags:add(mf.priority, tvb(at + fixed - 2, 1))
  tree:add(mf.name_len, tvb(at + fixed - 1, 1))
  local name = size > 0 and name_of(tvb, at + fixed, size) or ""
  if size > 0 then tree:add(mf.name, tvb(at + fixed, size), name) end
  -- Clients before 3.16 know nothing of authentication methods.
  local old = 10000 * major + 100 * minor < 31600
  return fixed + size, "connect " .. name .. " (" .. version .. ")", old and "messages" or "choice", patch, old
end

function to_daemon.choice(tvb, at, tree)
  local left = tvb:len() - at
  if left < 90 then return nil, 90 - left end
  local chosen = {}
  for slot = 0, 2 do
    local name = tvb(at + 30 * slot, 30):stringz()
    if name ~= "" then
      chosen[#chosen + 1] = name
      tree:add(mf.method, tvb(at + 30 * slot, 30), name)
    end
  end
  return 90, "authenticate by " .. table.concat(chosen, " "), "messages"
end

function to_daemon.messages(tvb, at, tree)
  local left = tvb:len() - at
  if left < HEADER then return nil, HEADER - left end
  local length = message_length(tvb, at)
  if not length then
    -- What an authentication method may say, or bytes that a daemon ends a session for.
    return left, "authentication or not a message", "messages"
  end
  if left < length then return nil, length - left end
  return length, dissect_message(tvb, at, length, tree), "messages"
end

local function code_words(code) return CODES[code] or ("code " .. code) end

function to_client.start(tvb, at, tree)
  local left = tvb:len() - at
  if left >= HEADER and tvb(at, 1):uint() > 127 and marked(tvb, at) and message_length(tvb, at) then
    return to_client.messages(tvb, at, tree)
  end
  local size = tvb(at, 1):int()
  if size < 0 then
    tree:add(mf.code, tvb(at, 1))
    return 1, "refused: " .. code_words(size), "ended"
  end
  if left < 1 + size then return nil, 1 + size - left end
  local methods = size > 0 and name_of(tvb, at + 1, size) or ""
  tree:add(mf.methods, tvb(at, 1 + size), methods)
  return 1 + size, "methods " .. methods, "code"
end

function to_client.code(tvb, at, tree)
  local code = tvb(at, 1):int()
  tree:add(mf.code, tvb(at, 1)):append_text(" (" .. code_words(code) .. ")")
  if code ~= 1 then return 1, "refused: " .. code_words(code), "ended" end
  return 1, "accepted", "version"
end

function to_client.version(tvb, at, tree, patch)
  local left, size = tvb:len() - at, patch and 3 or 2
  if left < size then return nil, size - left end
  local parts = {}
  for n = 0, size - 1 do parts[#parts + 1] = tostring(tvb(at + n, 1):uint()) end
  tree:add(mf.version, tvb(at, size), table.concat(parts, "."))
  return size, "daemon " .. table.concat(parts, "."), "private"
end

function to_client.private(tvb, at, tree)
  local left, size = tvb:len() - at, tvb(at, 1):uint()
  if left < 1 + size then return nil, 1 + size - left end
  local name = size > 0 and name_of(tvb, at + 1, size) or ""
  tree:add(mf.private, tvb(at, 1 + size), name)
  return 1 + size, "you are " .. name, "messages"
end

to_client.messages = to_daemon.messages
function to_daemon.ended(tvb, at) return tvb:len() - at, "after the end", "ended" end
to_client.ended = to_daemon.ended

function stream.dissector(tvb, pinfo, tree)
  pinfo.cols.protocol = "Spread"
  local port = stream.prefs.port
  local down
  if pinfo.dst_port == port then down = true
  elseif pinfo.src_port == port then down = false
  else down = pinfo.dst_port < pinfo.src_port end
  local steps = down and to_daemon or to_client
  local flow = stream_number()
  local key = (flow and flow.value or 0) .. (down and ">" or "<")
  local other = tostring(flow and flow.value or 0)
  local frame = pinfo.number .. key .. tvb:len()
  if not pinfo.visited and begins[frame] == nil then begins[frame] = stages[key] or "start" end
  local stage = begins[frame] or "messages"
  if not down and stage == "start" and silent[other] then stage = "code" end
  local root = tree:add(stream, tvb(), down and "Spread, to the daemon" or "Spread, to the client")
  local at, told = 0, {}
  while at < tvb:len() do
    local taken, what, next_stage, patch, old = steps[stage](tvb, at, root, patches[other] ~= false)
    if not taken then
      pinfo.desegment_offset = at
      pinfo.desegment_len = what
      break
    end
    if patch ~= nil then patches[other], silent[other] = patch, old end
    at = at + taken
    if #told < 6 then told[#told + 1] = what end
    stage = next_stage
  end
  if not pinfo.visited then
    stages[key] = stage
    if at == 0 then begins[frame] = nil end
  end
  if #told > 0 then pinfo.cols.info = table.concat(told, ", ") end
  return tvb:len()
end

local registered = nil
local function register()
  local tcp = DissectorTable.get("tcp.port")
  if registered then tcp:remove(registered, stream) end
  registered = stream.prefs.port
  tcp:add(registered, stream)
end
function stream.prefs_changed() register() end
register()

------------------------------------------------------------------ datagrams

local udp = Proto("spreadd", "Spread Daemons")

local KINDS = {
  { 0x02000000, "partition" }, { 0x01000000, "status" }, { 0x04000000, "flow control" },
  { 0x08000000, "reload" }, { 0x00000100, "alive" }, { 0x00000200, "join" },
  { 0x00000400, "refer" }, { 0x00000040, "hurry" },
}
local SERVICES = {
  { 0x10, "safe" }, { 0x08, "agreed" }, { 0x04, "fifo" }, { 0x02, "reliable" }, { 0x01, "unreliable" },
}
local REP_TYPES = { [0] = "potential", [1] = "segment representative", [2] = "ring representative" }
local STATES = { [1] = "OP", [2] = "SEG", [3] = "REPRESENTED", [4] = "GATHER", [5] = "FORM", [6] = "EVS" }

local uf = {
  kind = ProtoField.string("spreadd.kind", "Kind"),
  type = ProtoField.uint32("spreadd.type", "Type", base.HEX),
  endian = ProtoField.string("spreadd.endian", "Byte order"),
  routed = ProtoField.bool("spreadd.routed", "To be sent on into the segment", 32, nil, 0x20),
  arq = ProtoField.uint32("spreadd.arq", "Round of the token, modulo 16", base.DEC, nil, 0x000f0000),
  retrans = ProtoField.uint32("spreadd.retrans", "Times it was sent again, modulo 16", base.DEC, nil, 0x00f00000),
  transmitter = ProtoField.ipv4("spreadd.transmiter_id", "Transmitter"),
  proc = ProtoField.ipv4("spreadd.proc_id", "Made by"),
  memb_proc = ProtoField.ipv4("spreadd.memb_id.proc_id", "Membership id: daemon"),
  memb_time = ProtoField.int32("spreadd.memb_id.time", "Membership id: time"),
  seq = ProtoField.int32("spreadd.seq", "Sequence number"),
  round = ProtoField.int32("spreadd.token_round", "Round of the token"),
  hash = ProtoField.uint32("spreadd.conf_hash", "Configuration hash"),
  data_len = ProtoField.int16("spreadd.data_len", "Bytes behind the header"),
  aru = ProtoField.int32("spreadd.aru", "All received up to"),
  aru_id = ProtoField.ipv4("spreadd.aru_last_id", "Set by"),
  flow = ProtoField.int16("spreadd.flow_control", "Packets of this round"),
  rtr_len = ProtoField.int16("spreadd.rtr_len", "Bytes behind the header"),
  frag_index = ProtoField.int16("spreadd.fragment_index", "Fragment"),
  frag_len = ProtoField.int16("spreadd.fragment_len", "Length"),
  fragment = ProtoField.bytes("spreadd.fragment", "Part of a message"),
  pad = ProtoField.bytes("spreadd.pad", "Pad bytes"),
  num_members = ProtoField.int16("spreadd.num_members", "Members"),
  num_pending = ProtoField.int16("spreadd.num_pending", "Still to visit"),
  member = ProtoField.ipv4("spreadd.member", "Member"),
  num_reps = ProtoField.int16("spreadd.num_reps", "Representatives"),
  rep_index = ProtoField.int16("spreadd.rep_index", "Next of them"),
  rep = ProtoField.ipv4("spreadd.rep", "Representative"),
  rep_type = ProtoField.int16("spreadd.rep.type", "Kind", base.DEC, REP_TYPES),
  rep_segment = ProtoField.int16("spreadd.rep.seg_index", "Segment"),
  future_proc = ProtoField.ipv4("spreadd.future.proc_id", "New membership id: daemon"),
  future_time = ProtoField.int32("spreadd.future.time", "New membership id: time"),
  num_rings = ProtoField.int32("spreadd.num_rings", "Old rings"),
  ring_proc = ProtoField.ipv4("spreadd.ring.proc_id", "Old ring: daemon"),
  ring_time = ProtoField.int32("spreadd.ring.time", "Old ring: time"),
  trans_time = ProtoField.int32("spreadd.ring.trans_time", "Time of its transitional id"),
  ring_aru = ProtoField.int32("spreadd.ring.aru", "All received up to"),
  ring_high = ProtoField.int32("spreadd.ring.highest_seq", "Highest number"),
  num_holes = ProtoField.int32("spreadd.ring.num_holes", "Holes"),
  hole = ProtoField.int32("spreadd.ring.hole", "Hole"),
  num_commit = ProtoField.int16("spreadd.ring.num_commit", "Commit set"),
  num_trans = ProtoField.int16("spreadd.ring.num_trans", "Of it transitional"),
  commit = ProtoField.ipv4("spreadd.ring.commit", "In the commit set"),
  req_proc = ProtoField.ipv4("spreadd.request.proc_id", "Asked by"),
  req_segment = ProtoField.int16("spreadd.request.seg_index", "Of segment"),
  req_count = ProtoField.int16("spreadd.request.num_seq", "Numbers"),
  req_seq = ProtoField.int32("spreadd.request.seq", "Number asked for"),
  refer_proc = ProtoField.ipv4("spreadd.refer.proc_id", "Referred to"),
  component = ProtoField.int16("spreadd.component", "Component"),
}
local STATUS = {
  { "sec", 4 }, { "state", 4 }, { "gstate", 4 }, { "packet_sent", 4 }, { "packet_recv", 4 },
  { "packet_delivered", 4 }, { "retrans", 4 }, { "u_retrans", 4 }, { "s_retrans", 4 },
  { "b_retrans", 4 }, { "aru", 4 }, { "my_aru", 4 }, { "highest_seq", 4 }, { "token_hurry", 4 },
  { "token_rounds", 4 }, { "my_id", 4 }, { "leader_id", 4 }, { "message_delivered", 4 },
  { "membership_changes", 2 }, { "num_procs", 2 }, { "num_segments", 2 }, { "window", 2 },
  { "personal_window", 2 }, { "accelerated_ring", 2 }, { "accelerated_window", 2 },
  { "num_sessions", 2 }, { "num_groups", 2 }, { "major_version", 2 }, { "minor_version", 2 },
  { "patch_version", 2 },
}
for _, one in ipairs(STATUS) do
  local name, size = one[1], one[2]
  local title = "status." .. name
  if name == "my_id" or name == "leader_id" then uf[title] = ProtoField.ipv4("spreadd." .. title, name)
  elseif name == "state" then uf[title] = ProtoField.int32("spreadd." .. title, name, base.DEC, STATES)
  elseif size == 4 then uf[title] = ProtoField.int32("spreadd." .. title, name)
  else uf[title] = ProtoField.int16("spreadd." .. title, name) end
end
local all = {}
for _, field in pairs(uf) do all[#all + 1] = field end
udp.fields = all
udp.experts = {}

local function i16(range, order) if order == "<" then return range:le_int() end return range:int() end
local function address(range, order)
  local n = u32(range, order)
  return string.format("%d.%d.%d.%d", band(rshift(n, 24), 255), band(rshift(n, 16), 255), band(rshift(n, 8), 255), band(n, 255))
end

-- A list of members with its counts; returns the place behind it.
local function members(tvb, at, tree, order, room)
  local count, pending = i16(tvb(at, 2), order), i16(tvb(at + 2, 2), order)
  add(tree, uf.num_members, tvb(at, 2), order)
  add(tree, uf.num_pending, tvb(at + 2, 2), order)
  local shown = room and count + pending or count
  for n = 0, math.min(shown, 128) - 1 do
    if at + 8 + 4 * n > tvb:len() then break end
    add_id(tree, uf.member, tvb(at + 4 + 4 * n, 4), order)
  end
  return at + 4 + 4 * (room or count), count
end

local function representatives(tvb, at, tree, order, room)
  if at + 4 > tvb:len() then return at end
  local count = i16(tvb(at, 2), order)
  add(tree, uf.num_reps, tvb(at, 2), order)
  add(tree, uf.rep_index, tvb(at + 2, 2), order)
  for n = 0, math.min(count, 128) - 1 do
    local place = at + 4 + 8 * n
    if place + 8 > tvb:len() then break end
    local rep = add_id(tree, uf.rep, tvb(place, 4), order)
    add(rep, uf.rep_type, tvb(place + 4, 2), order)
    add(rep, uf.rep_segment, tvb(place + 6, 2), order)
  end
  return at + 4 + 8 * (room or count)
end

local function rings(tvb, at, tree, order)
  if at + 4 > tvb:len() then return end
  local count = i32(tvb(at, 4), order)
  add(tree, uf.num_rings, tvb(at, 4), order)
  at = at + 4
  for _ = 1, math.min(count, 20) do
    if at + 28 > tvb:len() then return end
    local holes, commit = i32(tvb(at + 20, 4), order), i16(tvb(at + 24, 2), order)
    if holes < 0 or commit < 0 then return end
    local ring = add_id(tree, uf.ring_proc, tvb(at, 4), order)
    add(ring, uf.ring_time, tvb(at + 4, 4), order)
    add(ring, uf.trans_time, tvb(at + 8, 4), order)
    add(ring, uf.ring_aru, tvb(at + 12, 4), order)
    add(ring, uf.ring_high, tvb(at + 16, 4), order)
    add(ring, uf.num_holes, tvb(at + 20, 4), order)
    add(ring, uf.num_commit, tvb(at + 24, 2), order)
    add(ring, uf.num_trans, tvb(at + 26, 2), order)
    at = at + 28
    if at + 4 * (holes + commit) > tvb:len() then return end
    for n = 0, holes - 1 do add(ring, uf.hole, tvb(at + 4 * n, 4), order) end
    at = at + 4 * holes
    for n = 0, commit - 1 do add_id(ring, uf.commit, tvb(at + 4 * n, 4), order) end
    at = at + 4 * commit
  end
end

local function requests(tvb, tree, order)
  local at, asked = 40, 0
  while at + 12 <= tvb:len() do
    local request = add_id(tree, uf.req_proc, tvb(at + 8, 4), order)
    if at + 16 > tvb:len() then break end
    add(request, uf.req_segment, tvb(at + 12, 2), order)
    add(request, uf.req_count, tvb(at + 14, 2), order)
    local count = i16(tvb(at + 14, 2), order)
    at = at + 16
    for _ = 1, count do
      if at + 4 > tvb:len() then break end
      add(request, uf.req_seq, tvb(at, 4), order)
      at, asked = at + 4, asked + 1
    end
    if count < 0 then break end
  end
  return asked
end

local function token(tvb, tree, order, type)
  add(tree, uf.seq, tvb(20, 4), order)
  add(tree, uf.aru, tvb(24, 4), order)
  add_id(tree, uf.aru_id, tvb(28, 4), order)
  add(tree, uf.flow, tvb(32, 2), order)
  add(tree, uf.rtr_len, tvb(34, 2), order)
  add(tree, uf.hash, tvb(36, 4), order)
  if band(type, 0x3000) == 0 then
    add(tree, uf.arq, tvb(0, 4), order)
    add(tree, uf.retrans, tvb(0, 4), order)
    local asked = requests(tvb, tree, order)
    local text = string.format("token seq %d aru %d", i32(tvb(20, 4), order), i32(tvb(24, 4), order))
    if asked > 0 then text = text .. string.format(", asks for %d", asked) end
    return "token", text
  end
  local kind = band(type, 0x1000) ~= 0 and "form1" or "form2"
  local at, count = 40, 0
  if tvb:len() >= 44 then at, count = members(tvb, 40, tree, order, 128) end
  if kind == "form1" then
    at = representatives(tvb, at, tree, order, 25)
  elseif at + 8 <= tvb:len() then
    add_id(tree, uf.future_proc, tvb(at, 4), order)
    add(tree, uf.future_time, tvb(at + 4, 4), order)
    at = at + 8
  end
  rings(tvb, at, tree, order)
  return kind, string.format("%s, %d members", kind, count)
end

local function fragments(tvb, tree, order)
  local header, at = 36, 40
  while header + 4 <= tvb:len() do
    local index, length = i16(tvb(header, 2), order), i16(tvb(header + 2, 2), order)
    if length < 0 or at + length > tvb:len() then
      tree:add_proto_expert_info(short)
      return
    end
    local part = add(tree, uf.frag_index, tvb(header, 2), order)
    add(part, uf.frag_len, tvb(header + 2, 2), order)
    local whole = index == -1
    if whole and length >= HEADER and message_length(tvb, at) == length then
      dissect_message(tvb, at, length, part)
    elseif length > 0 then
      part:add(uf.fragment, tvb(at, length))
    end
    local stop = at + length
    header = stop + (4 - stop % 4) % 4
    if header > stop and header <= tvb:len() then part:add(uf.pad, tvb(stop, header - stop)) end
    at = header + 4
  end
end

local function packet(tvb, tree, order, type)
  local routed = band(type, 0x20) ~= 0
  add(tree, uf.routed, tvb(0, 4), order)
  add(tree, uf.seq, tvb(20, 4), order)
  add(tree, uf.round, tvb(24, 4), order)
  add(tree, uf.hash, tvb(28, 4), order)
  add(tree, uf.data_len, tvb(32, 2), order)
  local kind = "data"
  for _, one in ipairs(KINDS) do
    if band(type, one[1]) ~= 0 then kind = one[2]; break end
  end
  local text = kind
  if kind == "data" then
    fragments(tvb, tree, order)
    for _, service in ipairs(SERVICES) do
      if band(type, service[1]) ~= 0 then text = service[2] .. " data"; break end
    end
    text = text .. string.format(" seq %d", i32(tvb(20, 4), order))
  elseif kind == "alive" or kind == "join" then
    local at, count = 40, 0
    if tvb:len() >= 44 then at, count = members(tvb, 40, tree, order) end
    if kind == "join" then representatives(tvb, at, tree, order) end
    text = string.format("%s, %d members", kind, count)
  elseif kind == "refer" then
    add_id(tree, uf.refer_proc, tvb(12, 4), order)
    text = "refer to " .. address(tvb(12, 4), order)
  elseif kind == "status" and tvb:len() == 136 then
    kind = "status_reply"
    local at = 40
    for _, one in ipairs(STATUS) do
      add(tree, uf["status." .. one[1]], tvb(at, one[2]), order)
      at = at + one[2]
    end
    text = "status of " .. address(tvb(8, 4), order)
  elseif kind == "partition" then
    for n = 0, (tvb:len() - 40) / 2 - 1 do add(tree, uf.component, tvb(40 + 2 * n, 2), order) end
  elseif kind == "flow control" then
    kind = "flow_control"
  end
  return kind, text .. (routed and ", routed" or "")
end

local PACKET_BITS = 0x0f00075f

-- Whether a datagram has the shape of one of ours.
local function fits(tvb)
  if tvb:len() < 40 then return nil end
  local order = marked(tvb, 0)
  if not order then return nil end
  local type = u32(tvb(0, 4), order)
  local is_token = band(type, PACKET_BITS) == 0
  local length = i16(tvb(is_token and 34 or 32, 2), order)
  if length ~= tvb:len() - 40 then return nil end
  return order, type, is_token
end

function udp.dissector(tvb, pinfo, tree)
  local order, type, is_token = fits(tvb)
  if not order then return 0 end
  pinfo.cols.protocol = "Spreadd"
  local root = tree:add(udp, tvb())
  add(root, uf.type, tvb(0, 4), order)
  root:add(uf.endian, tvb(0, 4), order == "<" and "little" or "big"):set_generated()
  add_id(root, uf.transmitter, tvb(4, 4), order)
  add_id(root, uf.proc, tvb(8, 4), order)
  add_id(root, uf.memb_proc, tvb(12, 4), order)
  add(root, uf.memb_time, tvb(16, 4), order)
  local kind, text = (is_token and token or packet)(tvb, root, order, type)
  root:add(uf.kind, tvb(0, 4), kind):set_generated()
  text = text .. " by " .. address(tvb(8, 4), order)
  root:append_text(": " .. text)
  pinfo.cols.info = text
  return tvb:len()
end

local function guess(tvb, pinfo, tree)
  if not fits(tvb) then return false end
  udp.dissector(tvb, pinfo, tree)
  return true
end
udp:register_heuristic("udp", guess)
DissectorTable.get("udp.port"):add_for_decode_as(udp)
