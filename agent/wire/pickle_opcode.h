// The opcodes of Python's pickles (pickletools names) that go over the wire.

#ifndef REPRISE_AGENT_WIRE_PICKLE_OPCODE_H_
#define REPRISE_AGENT_WIRE_PICKLE_OPCODE_H_

namespace reprise::pickle_opcode {

inline constexpr char kMark = '(';
inline constexpr char kStop = '.';
inline constexpr char kBinFloat = 'G';  // f64, big-endian
inline constexpr char kBinInt = 'J';    // i32
inline constexpr char kBinInt1 = 'K';   // u8
inline constexpr char kBinInt2 = 'M';   // u16
inline constexpr char kNone = 'N';
inline constexpr char kBinPersId = 'Q';
inline constexpr char kReduce = 'R';
inline constexpr char kBinUnicode = 'X';  // u32 length, UTF-8
inline constexpr char kEmptyList = ']';
inline constexpr char kBuild = 'b';
inline constexpr char kGlobal = 'c';  // module \n name \n
inline constexpr char kEmptyDict = '}';
inline constexpr char kAppend = 'a';
inline constexpr char kAppends = 'e';
inline constexpr char kBinGet = 'h';      // u8
inline constexpr char kLongBinGet = 'j';  // u32
inline constexpr char kBinPut = 'q';      // u8
inline constexpr char kLongBinPut = 'r';  // u32
inline constexpr char kEmptyTuple = ')';
inline constexpr char kTuple = 't';
inline constexpr char kSetItems = 'u';
inline constexpr char kProto = '\x80';  // u8
inline constexpr char kNewObj = '\x81';
inline constexpr char kTuple1 = '\x85';
inline constexpr char kTuple2 = '\x86';
inline constexpr char kTuple3 = '\x87';
inline constexpr char kNewTrue = '\x88';
inline constexpr char kNewFalse = '\x89';
inline constexpr char kLong1 = '\x8a';  // u8 length, little-endian
inline constexpr char kSetItem = 's';
inline constexpr char kBinBytes = 'B';       // u32 length
inline constexpr char kShortBinBytes = 'C';  // u8 length
// Of protocol 4.
inline constexpr char kShortBinUnicode = '\x8c';  // u8 length, UTF-8
inline constexpr char kStackGlobal = '\x93';
inline constexpr char kMemoize = '\x94';
inline constexpr char kFrame = '\x95';  // u64 length

}  // namespace reprise::pickle_opcode

#endif  // REPRISE_AGENT_WIRE_PICKLE_OPCODE_H_
