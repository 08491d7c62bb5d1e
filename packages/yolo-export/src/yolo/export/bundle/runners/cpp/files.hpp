// Files of a bundle: texts, float32 arrays, pictures. PPM is read here, everything else by OpenCV if it is compiled in.
#pragma once

#include <cctype>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "detector.hpp"
#ifdef WITH_OPENCV
#include <opencv2/imgcodecs.hpp>
#endif

namespace files {

inline std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + " cannot be opened");
  return {std::istreambuf_iterator<char>(file), {}};
}

// Little-endian, as are all machines that ONNX Runtime is built for.
inline std::vector<float> read_floats(const std::string& path) {
  const std::string bytes = read(path);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

inline detector::Picture read_ppm(const std::string& path, const std::string& bytes) {
  std::size_t at = 2;
  const auto number = [&] {
    while (at < bytes.size() && (std::isspace((unsigned char)bytes[at]) || bytes[at] == '#')) {
      if (bytes[at] == '#')
        while (at < bytes.size() && bytes[at] != '\n') ++at;
      else
        ++at;
    }
    int value = 0;
    for (int digits = 0; at < bytes.size() && std::isdigit((unsigned char)bytes[at]) && digits < 6; ++digits)
      value = value * 10 + (bytes[at++] - '0');
    return value;
  };
  detector::Picture picture;
  picture.width = number();
  picture.height = number();
  const int most = number();
  const std::size_t size = std::size_t(picture.width) * picture.height * 3;
  if (size == 0 || most != 255 || bytes.size() < ++at + size)
    throw std::runtime_error(path + " is damaged, or has not eight bits per colour");
  picture.data.assign(bytes.begin() + at, bytes.begin() + at + size);
  return picture;
}

inline detector::Picture read_picture(const std::string& path) {
  const std::string bytes = read(path);
  if (bytes.compare(0, 2, "P6") == 0) return read_ppm(path, bytes);
#ifdef WITH_OPENCV
  const cv::Mat image = cv::imread(path, cv::IMREAD_COLOR);  // turned as EXIF says
  if (image.empty()) throw std::runtime_error(path + " cannot be read as a picture");
  detector::Picture picture{image.cols, image.rows, std::vector<std::uint8_t>(std::size_t(image.cols) * image.rows * 3)};
  auto to = picture.data.begin();
  for (int y = 0; y < image.rows; ++y)
    for (int x = 0; x < image.cols; ++x)
      for (int c = 2; c >= 0; --c) *to++ = image.at<cv::Vec3b>(y, x)[c];
  return picture;
#else
  throw std::runtime_error(path + " is no PPM (P6) file, and this program was compiled without OpenCV");
#endif
}

}  // namespace files
