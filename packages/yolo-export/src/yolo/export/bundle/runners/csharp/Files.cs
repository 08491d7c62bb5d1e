// Files of a bundle: spec.json as classes, float32 arrays, PPM pictures. C# 7 or newer.
using System;
using System.IO;
using System.Runtime.Serialization;
using System.Runtime.Serialization.Json;
using System.Text;

namespace Detector
{
    [DataContract]
    public sealed class Spec
    {
        [DataMember(Name = "model")] public FileEntry Model;
        [DataMember(Name = "classes")] public string[] Classes;
        [DataMember(Name = "input")] public InputEntry Input;
        [DataMember(Name = "letterbox")] public LetterboxEntry Letterbox;
        [DataMember(Name = "output")] public OutputEntry Output;
        [DataMember(Name = "nms")] public NmsEntry Nms;
        [DataMember(Name = "golden")] public GoldenEntry Golden;
    }

    [DataContract]
    public sealed class FileEntry
    {
        [DataMember(Name = "file")] public string File;
        [DataMember(Name = "raw")] public string Raw;
        [DataMember(Name = "shape")] public int[] Shape;
    }

    [DataContract]
    public sealed class InputEntry
    {
        [DataMember(Name = "name")] public string Name;
        [DataMember(Name = "width")] public int Width;
        [DataMember(Name = "height")] public int Height;
    }

    [DataContract]
    public sealed class LetterboxEntry
    {
        [DataMember(Name = "fill")] public byte[] Fill;
    }

    [DataContract]
    public sealed class OutputEntry
    {
        [DataMember(Name = "name")] public string Name;
        [DataMember(Name = "shape")] public int[] Shape;
    }

    [DataContract]
    public sealed class NmsEntry
    {
        [DataMember(Name = "confidence")] public double Confidence;
        [DataMember(Name = "iou")] public double Iou;
        [DataMember(Name = "max_detections")] public int MaxDetections;
        [DataMember(Name = "max_candidates")] public int MaxCandidates;

        public Thresholds ToThresholds()
        {
            return new Thresholds
            {
                Confidence = Confidence, Iou = Iou, MaxDetections = MaxDetections, MaxCandidates = MaxCandidates
            };
        }
    }

    [DataContract]
    public sealed class GoldenEntry
    {
        [DataMember(Name = "picture")] public FileEntry Picture;
        [DataMember(Name = "input")] public FileEntry Input;
        [DataMember(Name = "output")] public FileEntry Output;
        [DataMember(Name = "detections")] public FileEntry Detections;
        [DataMember(Name = "nms")] public NmsEntry Nms;
        [DataMember(Name = "tolerances")] public TolerancesEntry Tolerances;
    }

    [DataContract]
    public sealed class TolerancesEntry
    {
        [DataMember(Name = "pixels")] public double Pixels;
        [DataMember(Name = "boxes")] public double Boxes;
        [DataMember(Name = "scores")] public double Scores;
        [DataMember(Name = "detections")] public double Detections;
    }

    [DataContract]
    public sealed class DetectionEntry
    {
        [DataMember(Name = "label")] public int Label;
        [DataMember(Name = "score")] public double Score;
        [DataMember(Name = "box")] public double[] Box;
    }

    public static class Files
    {
        public static T ReadJson<T>(string path)
        {
            using (var stream = File.OpenRead(path)) return (T)new DataContractJsonSerializer(typeof(T)).ReadObject(stream);
        }

        /// <summary>Little-endian, as are all machines that ONNX Runtime is built for.</summary>
        public static float[] ReadFloats(string path)
        {
            byte[] bytes = File.ReadAllBytes(path);
            var values = new float[bytes.Length / 4];
            Buffer.BlockCopy(bytes, 0, values, 0, values.Length * 4);
            return values;
        }

        /// <summary>Read a PPM (P6) file of eight bits per colour.</summary>
        public static Picture ReadPicture(string path)
        {
            byte[] bytes = File.ReadAllBytes(path);
            if (bytes.Length < 2 || bytes[0] != 'P' || bytes[1] != '6')
                throw new InvalidDataException(path + " is no PPM (P6) file; convert it");
            int at = 2;
            int width = Number(bytes, ref at), height = Number(bytes, ref at), most = Number(bytes, ref at);
            at++;
            if (most != 255 || width < 1 || height < 1 || bytes.Length - at < (long)width * height * 3)
                throw new InvalidDataException(path + " is damaged, or has not eight bits per colour");
            var data = new byte[width * height * 3];
            Array.Copy(bytes, at, data, 0, data.Length);
            return new Picture(width, height, data);
        }

        private static int Number(byte[] bytes, ref int at)
        {
            while (at < bytes.Length && (bytes[at] == '#' || char.IsWhiteSpace((char)bytes[at])))
            {
                if (bytes[at] == '#')
                    while (at < bytes.Length && bytes[at] != '\n') at++;
                else
                    at++;
            }
            var digits = new StringBuilder();
            while (at < bytes.Length && bytes[at] >= '0' && bytes[at] <= '9') digits.Append((char)bytes[at++]);
            int value;
            return int.TryParse(digits.ToString(), out value) ? value : 0;
        }
    }
}
