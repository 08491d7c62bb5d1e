// Reading JSON (RFC 8259): objects, lists, texts, numbers, true, false and null, enough for spec.json. C++17.
#pragma once

#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace json {

class Value {
 public:
  double number = 0;  // of true: 1
  std::string text;
  std::vector<Value> list;
  std::map<std::string, Value> object;

  const Value& operator[](const std::string& key) const {
    const auto found = object.find(key);
    if (found == object.end()) throw std::runtime_error("there is no entry \"" + key + "\"");
    return found->second;
  }
};

class Reader {
 public:
  explicit Reader(const std::string& source) : at_(source.c_str()), end_(at_ + source.size()) {}

  Value read() {
    Value value = any();
    space();
    if (at_ != end_) fail();
    return value;
  }

 private:
  const char *at_, *end_;

  [[noreturn]] void fail() const { throw std::runtime_error("it is no valid JSON"); }
  void space() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
  }
  bool take(char wanted) {
    space();
    if (at_ == end_ || *at_ != wanted) return false;
    ++at_;
    return true;
  }
  void need(char wanted) {
    if (!take(wanted)) fail();
  }
  bool word(const std::string& wanted) {
    if (std::size_t(end_ - at_) < wanted.size() || std::string(at_, wanted.size()) != wanted) return false;
    at_ += wanted.size();
    return true;
  }

  Value any() {
    Value value;
    space();
    if (take('{')) {
      if (take('}')) return value;
      do {
        need('"');
        const std::string key = rest_of_text();
        need(':');
        value.object[key] = any();
      } while (take(','));
      need('}');
    } else if (take('[')) {
      if (take(']')) return value;
      do value.list.push_back(any());
      while (take(','));
      need(']');
    } else if (take('"')) {
      value.text = rest_of_text();
    } else if (word("true")) {
      value.number = 1;
    } else if (!word("false") && !word("null")) {
      char* stop = nullptr;
      value.number = std::strtod(at_, &stop);
      if (stop == at_ || stop > end_) fail();
      at_ = stop;
    }
    return value;
  }

  std::string rest_of_text() {
    std::string text;
    while (at_ != end_ && *at_ != '"') {
      if (*at_ != '\\') {
        text += *at_++;
        continue;
      }
      if (++at_ == end_) fail();
      const char kind = *at_++;
      const std::string plain = "\"\\/bfnrt", meant = "\"\\/\b\f\n\r\t";
      const auto index = plain.find(kind);
      if (index != std::string::npos)
        text += meant[index];
      else if (kind == 'u')
        append_utf8(text, code_point());
      else
        fail();
    }
    if (at_++ == end_) fail();
    return text;
  }

  unsigned four_digits() {
    if (end_ - at_ < 4) fail();
    char* stop = nullptr;
    const std::string digits(at_, 4);
    const unsigned long value = std::strtoul(digits.c_str(), &stop, 16);
    if (stop != digits.c_str() + 4) fail();
    at_ += 4;
    return unsigned(value);
  }

  unsigned code_point() {
    const unsigned high = four_digits();
    if (high < 0xd800 || high > 0xdbff || !word("\\u")) return high;
    return 0x10000 + ((high - 0xd800) << 10) + (four_digits() - 0xdc00);
  }

  static void append_utf8(std::string& text, unsigned code) {
    if (code < 0x80) {
      text += char(code);
    } else if (code < 0x800) {
      text += char(0xc0 | code >> 6);
      text += char(0x80 | (code & 63));
    } else if (code < 0x10000) {
      text += char(0xe0 | code >> 12);
      text += char(0x80 | (code >> 6 & 63));
      text += char(0x80 | (code & 63));
    } else {
      text += char(0xf0 | code >> 18);
      text += char(0x80 | (code >> 12 & 63));
      text += char(0x80 | (code >> 6 & 63));
      text += char(0x80 | (code & 63));
    }
  }
};

inline Value parse(const std::string& source) { return Reader(source).read(); }

}  // namespace json
